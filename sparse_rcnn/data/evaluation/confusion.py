"""Confusion matrix of a detector: classes of objects against classes that were found, and background.

Pairs of any two classes are taken by IoU. Pairs of the same class come first: so a detection is confused with
another class only if no object of its own class is left for it. What lies in a crowd region of its class and
finds no object is left out.
"""

from typing import NamedTuple

import numpy as np

from sparse_rcnn.data.evaluation.flat_boxes import EvaluatedBoxes
from sparse_rcnn.data.evaluation.matching import take_greedily
from sparse_rcnn.data.evaluation.overlaps import Pairs

__all__ = ["Confusion", "confusion_matrix"]


class Confusion(NamedTuple):
    """The matrix, and what each cell holds.

    Attributes:
        matrix: [K + 1, K + 1] int64. Rows: the annotated class, the last is background (nothing there).
            Columns: the detected class, the last is background (missed).
        iou: The IoU from which a box is found.
        threshold: The score from which a detection counts.
        row: [E] int64, the row of each entry.
        column: [E] int64, its column.
        image: [E] int64, index of its image.
        truth: [E] int64, index of its object, -1 in the last row.
        found: [E] int64, index of its detection, -1 in the last column.
    """

    matrix: np.ndarray
    iou: float
    threshold: float
    row: np.ndarray
    column: np.ndarray
    image: np.ndarray
    truth: np.ndarray
    found: np.ndarray

    def cell(self, row: int, column: int) -> np.ndarray:
        """The entries of a cell, as indices into `row`, `column`, `image`, `truth` and `found`."""
        return np.flatnonzero((self.row == row) & (self.column == column))


def confusion_matrix(boxes: EvaluatedBoxes, pairs: Pairs, iou: float, threshold: float) -> Confusion:
    """The confusion matrix of the detections with a score of at least `threshold`.

    Args:
        boxes: Ground truth and detections.
        pairs: The overlapping pairs, from an IoU not above `iou`.
        iou: The IoU from which a box is found.
        threshold: The score from which a detection counts.
    """
    truth, found, background = boxes.truth, boxes.found, len(boxes.category_ids)
    same = truth.label[pairs.truth] == found.label[pairs.found]
    crowd = truth.crowd[pairs.truth]
    kept = (pairs.iou >= iou) & (found.score[pairs.found] >= threshold) & (same | ~crowd)
    turn = np.where(same, np.where(crowd, 1, 0), 2)[kept]
    pairs = pairs.chosen(kept)
    pairs = pairs.chosen(np.lexsort((pairs.truth, pairs.found, -pairs.iou, turn)))
    taken = pairs.chosen(take_greedily(pairs.found, pairs.truth, truth.crowd[pairs.truth]))

    in_crowd = truth.crowd[taken.truth]
    found_at, truth_at = taken.found[~in_crowd], taken.truth[~in_crowd]
    extra = found.score >= threshold
    extra[taken.found] = False
    missed = ~truth.crowd
    missed[truth_at] = False
    extra_at, missed_at = np.flatnonzero(extra), np.flatnonzero(missed)

    entries_truth = np.concatenate([truth_at, np.full(len(extra_at), -1), missed_at])
    entries_found = np.concatenate([found_at, extra_at, np.full(len(missed_at), -1)])
    row = np.where(entries_truth < 0, background, np.append(truth.label, background)[entries_truth])
    column = np.where(entries_found < 0, background, np.append(found.label, background)[entries_found])
    truth_image, found_image = np.append(truth.image, -1), np.append(found.image, -1)
    image = np.where(entries_truth < 0, found_image[entries_found], truth_image[entries_truth])
    size = background + 1
    matrix = np.bincount(row * size + column, minlength=size * size).reshape(size, size)
    return Confusion(matrix, iou, threshold, row, column, image, entries_truth, entries_found)
