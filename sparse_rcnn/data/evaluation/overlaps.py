"""Pairs of a detection and an annotated box of the same image that overlap.

IoU as pycocotools computes it, in the same order of operations, so that a comparison with a threshold has the
same outcome: intersection / union; for a crowd region, intersection / area of the detection.
"""

from typing import NamedTuple

import numpy as np

from sparse_rcnn.data.evaluation.flat_boxes import EvaluatedBoxes

__all__ = ["BLOCK", "Pairs", "overlapping_pairs"]

BLOCK = 1 << 21  # pairs at a time: temporary arrays stay small


class Pairs(NamedTuple):
    """Pairs, ordered by detection and then by annotated box.

    Attributes:
        found: [P] int64, index of the detection.
        truth: [P] int64, index of the annotated box.
        iou: [P] float64.
    """

    found: np.ndarray
    truth: np.ndarray
    iou: np.ndarray

    def chosen(self, keep: np.ndarray) -> "Pairs":
        """Some of the pairs: [P] bool, or indices."""
        return Pairs(self.found[keep], self.truth[keep], self.iou[keep])


def overlapping_pairs(boxes: EvaluatedBoxes, least_iou: float) -> Pairs:
    """All pairs of any two classes with an IoU of at least `least_iou`, which is above 0."""
    truth, found = boxes.truth, boxes.found
    first = np.searchsorted(truth.image, np.arange(len(boxes.image_ids) + 1))
    counts = (first[1:] - first[:-1])[found.image]  # [D] annotated boxes in the image of a detection
    ends = np.cumsum(counts)
    parts = []
    start = 0
    while start < len(counts):
        before = int(ends[start] - counts[start])
        stop = max(start + 1, int(np.searchsorted(ends, before + BLOCK, side="right")))
        rows = np.repeat(np.arange(start, stop), counts[start:stop])
        offset = np.arange(len(rows)) - (ends[rows] - counts[rows] - before)
        columns = first[found.image[rows]] + offset
        iou = _iou(found.boxes[rows], truth.boxes[columns], truth.crowd[columns])
        keep = iou >= least_iou
        parts.append(Pairs(rows[keep], columns[keep], iou[keep]))
        start = stop
    if not parts:
        return Pairs(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64), np.empty(0))
    return Pairs(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def _iou(found: np.ndarray, truth: np.ndarray, crowd: np.ndarray) -> np.ndarray:
    (dx, dy, dw, dh), (gx, gy, gw, gh) = found.T, truth.T
    width = np.minimum(dw + dx, gw + gx) - np.maximum(dx, gx)
    height = np.minimum(dh + dy, gh + gy) - np.maximum(dy, gy)
    area = dw * dh
    common = width * height
    union = np.where(crowd, area, area + gw * gh - common)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where((width > 0) & (height > 0), common / union, 0.0)
