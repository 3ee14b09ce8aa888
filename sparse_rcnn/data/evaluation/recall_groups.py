"""Recall by the size of an object, and by the number of objects in its image."""

from typing import NamedTuple

import numpy as np

from sparse_rcnn.data.evaluation.flat_boxes import EvaluatedBoxes
from sparse_rcnn.data.evaluation.matching import Match

__all__ = ["COUNTS", "SIZES", "RecallGroups", "recall_by_count", "recall_by_size"]

# COCO's bounds, by the annotated area in pixels of the image file.
SIZES = (("small", 0.0), ("medium", 32.0**2), ("large", 96.0**2))
COUNTS = (1, 2, 4, 8, 16, 32)


class RecallGroups(NamedTuple):
    """Recall of groups of objects.

    Attributes:
        names: What each of the n groups is.
        objects: [n] int64, its objects, without crowd regions.
        recall: [n] the share that any detection finds, NaN without objects.
        recall_at_threshold: [n] the share that detections from the threshold on find.
    """

    names: tuple[str, ...]
    objects: np.ndarray
    recall: np.ndarray
    recall_at_threshold: np.ndarray


def recall_by_size(boxes: EvaluatedBoxes, match: Match, threshold: float) -> RecallGroups:
    """Recall of small, medium and large objects: below 32², below 96² square pixels, and from there on."""
    group = np.searchsorted([bound for _, bound in SIZES], boxes.truth.area, side="right") - 1
    return _recall(boxes, match, threshold, tuple(name for name, _ in SIZES), group.clip(0))


def recall_by_count(boxes: EvaluatedBoxes, match: Match, threshold: float) -> RecallGroups:
    """Recall of the objects in images with 1, 2-3, 4-7, 8-15, 16-31 and 32 or more objects."""
    objects = np.bincount(boxes.truth.image[~boxes.truth.crowd], minlength=len(boxes.image_ids))
    group = np.searchsorted(COUNTS, objects[boxes.truth.image], side="right") - 1
    ends = [*(bound - 1 for bound in COUNTS[1:]), None]
    names = tuple(
        f"{first}+" if last is None else f"{first}" if first == last else f"{first}-{last}"
        for first, last in zip(COUNTS, ends, strict=True)
    )
    return _recall(boxes, match, threshold, names, group.clip(0))


def _recall(
    boxes: EvaluatedBoxes, match: Match, threshold: float, names: tuple[str, ...], group: np.ndarray
) -> RecallGroups:
    counted = ~boxes.truth.crowd
    objects = np.bincount(group[counted], minlength=len(names))

    def share(detections: np.ndarray) -> np.ndarray:
        found = np.bincount(group[match.truth[detections]], minlength=len(names))
        with np.errstate(invalid="ignore"):
            return found / objects

    right = match.right
    return RecallGroups(names, objects, share(right), share(right & (boxes.found.score >= threshold)))
