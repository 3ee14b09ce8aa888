"""AP, counts and the score of the best F1 of each class."""

from typing import NamedTuple

import numpy as np

from sparse_rcnn.data.evaluation.flat_boxes import EvaluatedBoxes
from sparse_rcnn.data.evaluation.score_curves import BestScore

__all__ = ["ClassFigures", "class_figures"]


class ClassFigures(NamedTuple):
    """Figures of each class.

    Attributes:
        ap: [K] AP at IoU 0.50:0.95, as pycocotools. NaN for a class without objects.
        ap50: [K] AP at IoU 0.50.
        ap75: [K] AP at IoU 0.75.
        objects: [K] int64, annotated objects, without crowd regions.
        images: [K] int64, images with such an object.
        detections: [K] int64, detections of any score, at most `max_detections` an image.
        threshold: [K] the score of the best F1. NaN without objects or detections.
        precision: [K] precision of the detections from this score on.
        recall: [K] their recall.
        f1: [K] their F1.
    """

    ap: np.ndarray
    ap50: np.ndarray
    ap75: np.ndarray
    objects: np.ndarray
    images: np.ndarray
    detections: np.ndarray
    threshold: np.ndarray
    precision: np.ndarray
    recall: np.ndarray
    f1: np.ndarray


def class_figures(
    boxes: EvaluatedBoxes, by_iou: np.ndarray, objects: np.ndarray, best: list[BestScore]
) -> ClassFigures:
    """The figures of each class.

    Args:
        boxes: Ground truth and detections.
        by_iou: [10, K] AP of each class at each of COCO's IoUs.
        objects: [K] objects of each class.
        best: The best score of each class.
    """
    num_classes, counted = len(boxes.category_ids), ~boxes.truth.crowd
    label, image = boxes.truth.label[counted], boxes.truth.image[counted]
    with_class = np.unique(image * num_classes + label) % max(num_classes, 1)
    columns = np.array(best, dtype=float).reshape(-1, 4).T
    return ClassFigures(
        by_iou.mean(0),
        by_iou[0],
        by_iou[5],
        objects,
        np.bincount(with_class, minlength=num_classes),
        np.bincount(boxes.found.label, minlength=num_classes),
        *columns,
    )
