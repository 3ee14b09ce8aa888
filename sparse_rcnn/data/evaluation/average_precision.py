"""Average precision of each class as COCO defines it: the mean of the precision at 101 recalls."""

from typing import NamedTuple

import numpy as np

from sparse_rcnn.data.evaluation.flat_boxes import EvaluatedBoxes
from sparse_rcnn.data.evaluation.matching import Match

__all__ = ["IOUS", "RECALLS", "RankedClasses", "class_precision", "precision_over_recall", "rank_by_class"]

IOUS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0.0, 1.0, 101)


class RankedClasses(NamedTuple):
    """The detections class by class, in each by falling score.

    Attributes:
        order: [D] int64, the detections in this order. Of equal scores, the image of lower id comes first.
        first: [K + 1] int64, where each class begins.
        objects: [K] int64, annotated objects of each class, without crowd regions.
    """

    order: np.ndarray
    first: np.ndarray
    objects: np.ndarray


def rank_by_class(boxes: EvaluatedBoxes) -> RankedClasses:
    """The detections by class and score, and the objects to find."""
    num_classes = len(boxes.category_ids)
    order = np.lexsort((-boxes.found.score, boxes.found.label))
    first = np.searchsorted(boxes.found.label[order], np.arange(num_classes + 1))
    objects = np.bincount(boxes.truth.label[~boxes.truth.crowd], minlength=num_classes)
    return RankedClasses(order, first, objects)


def precision_over_recall(ranked: RankedClasses, match: Match) -> np.ndarray:
    """The interpolated precision of each class at the recalls 0, 0.01, ..., 1.

    Args:
        ranked: As from `rank_by_class`.
        match: What the detections find, at one IoU.

    Returns:
        [K, 101], NaN for a class without objects. Its mean over the recalls is the AP at this IoU.
    """
    right, wrong = match.right[ranked.order], match.wrong[ranked.order]
    rows = []
    for label, objects in enumerate(ranked.objects.tolist()):
        part = slice(ranked.first[label], ranked.first[label + 1])
        rows.append(class_precision(right[part], wrong[part], objects))
    return np.array(rows).reshape(-1, len(RECALLS))


def class_precision(right: np.ndarray, wrong: np.ndarray, objects: int) -> np.ndarray:
    """[101] interpolated precision of one class, from its detections by falling score."""
    if objects == 0:
        return np.full(len(RECALLS), np.nan)
    hits, misses = np.cumsum(right, dtype=float), np.cumsum(wrong, dtype=float)
    precision = hits / (hits + misses + np.spacing(1))
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    places = np.searchsorted(hits / objects, RECALLS, side="left")
    return np.append(precision, 0.0)[places]
