"""What a detector does well and badly on a data set: by class, score, kind of error and size of object."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from sparse_rcnn.data.evaluation.average_precision import IOUS, precision_over_recall, rank_by_class
from sparse_rcnn.data.evaluation.calibration import Calibration, calibration
from sparse_rcnn.data.evaluation.class_figures import ClassFigures, class_figures
from sparse_rcnn.data.evaluation.confusion import Confusion, confusion_matrix
from sparse_rcnn.data.evaluation.error_kinds import LEAST_IOU, ErrorKinds, error_kinds
from sparse_rcnn.data.evaluation.flat_boxes import EvaluatedBoxes, flat_boxes
from sparse_rcnn.data.evaluation.matching import Match, match_by_class
from sparse_rcnn.data.evaluation.overlaps import Pairs, overlapping_pairs
from sparse_rcnn.data.evaluation.recall_groups import RecallGroups, recall_by_count, recall_by_size
from sparse_rcnn.data.evaluation.score_curves import BestScore, ScoreCurves, score_curves
from sparse_rcnn.data.formats.detection_dataset import DetectionDataset

__all__ = ["Analysis", "analyse"]


class Analysis(NamedTuple):
    """The result of `analyse`. Detections are indexed [D], annotated boxes [G], classes [K], images [I].

    Attributes:
        boxes: The boxes that were evaluated, as arrays. All indices of this result point into them.
        iou: The IoU from which a box is found, for all but AP, AP50 and AP75.
        threshold: The score from which detections count in `confusion`, `image_*` and
            `recall_at_threshold`: as given, or the one of the best F1 of all classes together.
        ap: Mean AP over the classes with objects, at IoU 0.50:0.95.
        ap50: The same at IoU 0.50.
        ap75: The same at IoU 0.75.
        best: The score of the best F1 of all classes together, with precision, recall and F1.
        classes: Figures of each class.
        curves: Precision, recall and F1 over the score, [K, 101] of each class.
        overall_curves: The same [101], of all classes together.
        precision_over_recall: [K, 101] interpolated precision at the recalls 0, 0.01, ..., 1.
        match: What each detection finds.
        confusion: Confusion matrix, and the entries of its cells.
        errors: Kinds of error of all detections.
        calibration: Whether scores say how often detections are right.
        recall_by_size: Recall of small, medium and large objects.
        recall_by_count: Recall by the number of objects in the image.
        image_objects: [I] int64, objects in each image, without crowd regions.
        image_missed: [I] int64, those that no detection of their class from the threshold on finds.
        image_wrong: [I] int64, detections from the threshold on that find nothing.
        shown_errors: Kinds of error of the detections from the threshold on, as if there were no others.

    Example:
        >>> from sparse_rcnn.data import ShapesDataset
        >>> truth = ShapesDataset("shapes", "val", num_images=2).coco_ground_truth()
        >>> results = [{**entry, "score": 0.9} for entry in truth["annotations"]]
        >>> analysis: Analysis = analyse(truth, results)
        >>> int(analysis.image_missed.sum()), int(analysis.image_wrong.sum())
        (0, 0)
    """

    boxes: EvaluatedBoxes
    iou: float
    threshold: float
    ap: float
    ap50: float
    ap75: float
    best: BestScore
    classes: ClassFigures
    curves: ScoreCurves
    overall_curves: ScoreCurves
    precision_over_recall: np.ndarray
    match: Match
    confusion: Confusion
    errors: ErrorKinds
    calibration: Calibration
    recall_by_size: RecallGroups
    recall_by_count: RecallGroups
    image_objects: np.ndarray
    image_missed: np.ndarray
    image_wrong: np.ndarray
    shown_errors: ErrorKinds


def analyse(
    ground_truth: DetectionDataset | dict[str, Any],
    results: Sequence[dict[str, Any]],
    iou: float = 0.5,
    threshold: float | None = None,
    max_detections: int = 100,
    image_ids: Sequence[int] | None = None,
    category_ids: Sequence[int] | None = None,
) -> Analysis:
    """Analyses COCO results over the images of a data set.

    Boxes are matched as in pycocotools, crowd regions are ignored as there, and AP is equal to
    `evaluate_coco`. pycocotools is not needed.

    Args:
        ground_truth: A data set, or a dict in COCO's format.
        results: As from `coco_results`, of all images together, with scores in 0..1.
        iou: The IoU from which a box is found, above 0.1.
        threshold: The score from which detections count where a threshold is needed. The default is the one
            of the best F1 of all classes together.
        max_detections: The number of detections of each class that count in an image, best first.
        image_ids: The images to analyse. The default is all.
        category_ids: The classes to analyse. The default is all.

    Returns:
        The figures. NaN where there is nothing to divide by.

    Raises:
        ValueError: As `evaluate_coco`; if a score is not in 0..1; if `iou` or `threshold` is out of range.

    Example:
        >>> from sparse_rcnn.data import ShapesDataset
        >>> truth = ShapesDataset("shapes", "val", num_images=2).coco_ground_truth()
        >>> results = [{**entry, "score": 0.9} for entry in truth["annotations"]]
        >>> analysis = analyse(truth, results)
        >>> round(analysis.ap, 3), analysis.threshold, int(analysis.errors.counts.sum())
        (1.0, 0.9, 0)
    """
    if not LEAST_IOU < iou <= 1:
        raise ValueError(f"iou must be above {LEAST_IOU} and at most 1, got {iou}")
    if threshold is not None and not 0 <= threshold <= 1:
        raise ValueError(f"threshold must be in 0..1, got {threshold}")
    boxes = flat_boxes(ground_truth, results, max_detections, image_ids, category_ids)
    score = boxes.found.score
    if (outside := np.flatnonzero((score < 0) | (score > 1))).size:
        index = int(boxes.found.row[outside[0]])
        raise ValueError(f"result {index} has score {score[outside[0]]}: scores must be in 0..1")

    pairs = overlapping_pairs(boxes, LEAST_IOU)
    ranked = rank_by_class(boxes)
    match = match_by_class(boxes, pairs, iou)
    over_recall = precision_over_recall(ranked, match)  # [K, 101]
    by_iou = np.array(
        [precision_over_recall(ranked, match_by_class(boxes, pairs, each)).mean(1) for each in IOUS]
    )  # [10, K]
    curves, best_by_class, overall_curves, best = score_curves(ranked, match, score)
    limit = threshold if threshold is not None else 0.5 if np.isnan(best.threshold) else best.threshold
    objects, missed, wrong = _image_figures(boxes, match, limit)
    return Analysis(
        boxes=boxes,
        iou=iou,
        threshold=limit,
        ap=_mean(by_iou.mean(0)),
        ap50=_mean(by_iou[0]),
        ap75=_mean(by_iou[5]),
        best=best,
        classes=class_figures(boxes, by_iou, ranked.objects, best_by_class),
        curves=curves,
        overall_curves=overall_curves,
        precision_over_recall=over_recall,
        match=match,
        confusion=confusion_matrix(boxes, pairs, iou, limit),
        errors=error_kinds(boxes, pairs, match, iou),
        calibration=calibration(match, score),
        recall_by_size=recall_by_size(boxes, match, limit),
        recall_by_count=recall_by_count(boxes, match, limit),
        image_objects=objects,
        image_missed=missed,
        image_wrong=wrong,
        shown_errors=_shown_errors(boxes, pairs, match, iou, limit),
    )


def _shown_errors(
    boxes: EvaluatedBoxes, pairs: Pairs, match: Match, iou: float, threshold: float
) -> ErrorKinds:
    hidden = boxes.found.score < threshold
    shown = Match(np.where(hidden, -1, match.truth), match.ignored | hidden)
    return error_kinds(boxes, pairs.chosen(~hidden[pairs.found]), shown, iou)


def _image_figures(
    boxes: EvaluatedBoxes, match: Match, threshold: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Objects, missed objects and wrong detections of each image."""
    num_images, counted = len(boxes.image_ids), boxes.found.score >= threshold
    objects = np.bincount(boxes.truth.image[~boxes.truth.crowd], minlength=num_images)
    hits = np.bincount(boxes.found.image[match.right & counted], minlength=num_images)
    wrong = np.bincount(boxes.found.image[match.wrong & counted], minlength=num_images)
    return objects, objects - hits, wrong


def _mean(values: np.ndarray) -> float:
    """The mean over the classes with objects."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")
