"""LVIS's average precision of rare, common and frequent classes, in images where they were looked for.

Gupta et al., "LVIS: A Dataset for Large Vocabulary Instance Segmentation", section 3. Of each image, the 300
best detections of all classes together count. A detection counts only if its class is annotated in the image,
or is in the image's `neg_category_ids`. One that finds nothing is ignored if its class is in the image's
`not_exhaustive_category_ids`.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from sparse_rcnn.data.evaluation.average_precision import (
    IOUS,
    RankedClasses,
    precision_over_recall,
    rank_by_class,
)
from sparse_rcnn.data.evaluation.flat_boxes import EvaluatedBoxes, flat_boxes, rank_in_group, truth_dict
from sparse_rcnn.data.evaluation.matching import Match, match_by_class
from sparse_rcnn.data.evaluation.overlaps import Pairs, overlapping_pairs
from sparse_rcnn.data.formats.detection_dataset import DetectionDataset
from sparse_rcnn.data.formats.lvis_fields import FREQUENCIES, IMAGE_FIELDS
from sparse_rcnn.ops.argument_checks import whole_number

__all__ = ["evaluate_lvis"]

_AREAS = {"APs": (0.0, 32.0**2), "APm": (32.0**2, 96.0**2), "APl": (96.0**2, 1e10)}


def evaluate_lvis(
    ground_truth: DetectionDataset | dict[str, Any],
    results: Sequence[dict[str, Any]],
    max_detections: int = 300,
    image_ids: Sequence[int] | None = None,
    category_ids: Sequence[int] | None = None,
) -> dict[str, float]:
    """Evaluates results as LVIS does.

    Args:
        ground_truth: A data set that was read from LVIS's files, or a dict in their format: images with
            `neg_category_ids` and `not_exhaustive_category_ids`, categories with a `frequency` r, c or f.
        results: As from `coco_results`, of all images together.
        max_detections: The number of detections that count in an image, of all classes together.
        image_ids: The images to evaluate. The default is all.
        category_ids: The classes to evaluate. The default is all.

    Returns:
        AP, AP50, AP75, APs, APm and APl; APr, APc and APf of the rare, common and frequent classes. NaN if
        there is no ground truth of that kind.

    Raises:
        ValueError: As `evaluate_coco`, or if the ground truth lacks one of the fields.

    Example:
        >>> from sparse_rcnn.data import ShapesDataset
        >>> truth = ShapesDataset("shapes", "val", num_images=2).coco_ground_truth()
        >>> for image in truth["images"]:
        ...     image.update(neg_category_ids=[], not_exhaustive_category_ids=[])
        >>> for category in truth["categories"]:
        ...     category["frequency"] = "c"
        >>> results = [{**entry, "score": 0.9} for entry in truth["annotations"]]
        >>> round(evaluate_lvis(truth, results)["APc"], 3)
        1.0
    """
    truth = truth_dict(ground_truth)
    for section, fields in (("images", IMAGE_FIELDS), ("categories", ("frequency",))):
        for entry in truth[section]:
            if lacking := [field for field in fields if field not in entry]:
                raise ValueError(f"{section[:-1]} {entry['id']} has no {lacking[0]!r}, which LVIS's AP needs")
    boxes = flat_boxes(truth, results, max(len(results), 1), image_ids, category_ids)
    boxes = _looked_for(_best(boxes, max_detections), truth)
    excuses = _listed(boxes, truth, "not_exhaustive_category_ids")[boxes.found.image, boxes.found.label]
    pairs = overlapping_pairs(boxes, 0.5)
    ranked = rank_by_class(boxes)
    by_iou = _ap(boxes, pairs, ranked, excuses, None)  # [10, K]
    frequencies = {category["id"]: category["frequency"] for category in truth["categories"]}
    of_class = np.array([frequencies[category] for category in boxes.category_ids.tolist()])
    figures = {"AP": by_iou, "AP50": by_iou[0], "AP75": by_iou[5]}
    figures |= {name: _ap(boxes, pairs, ranked, excuses, area) for name, area in _AREAS.items()}
    figures |= {f"AP{letter}": by_iou[:, of_class == letter] for letter in FREQUENCIES}
    known = {name: values[~np.isnan(values)] for name, values in figures.items()}
    return {name: float(values.mean()) if values.size else float("nan") for name, values in known.items()}


def _best(boxes: EvaluatedBoxes, max_detections: int) -> EvaluatedBoxes:
    """The best detections of each image. LVIS has no crowd regions."""
    max_detections = whole_number("max_detections", max_detections)
    kept = rank_in_group(boxes.found.image) < max_detections
    found = type(boxes.found)(*(column[kept] for column in boxes.found))
    return boxes._replace(found=found, truth=boxes.truth._replace(crowd=np.zeros_like(boxes.truth.crowd)))


def _looked_for(boxes: EvaluatedBoxes, truth: dict[str, Any]) -> EvaluatedBoxes:
    """Leaves out detections of classes that nobody looked for in the image.

    A class was looked for if the image has an annotation of it, or lists it in `neg_category_ids`.
    """
    known = _listed(boxes, truth, "neg_category_ids")
    known[boxes.truth.image, boxes.truth.label] = True
    kept = known[boxes.found.image, boxes.found.label]
    return boxes._replace(found=type(boxes.found)(*(column[kept] for column in boxes.found)))


def _listed(boxes: EvaluatedBoxes, truth: dict[str, Any], field: str) -> np.ndarray:
    """[I, K] bool: whether an image lists a class."""
    listed = np.zeros((len(boxes.image_ids), len(boxes.category_ids)), dtype=bool)
    label_of = {category: label for label, category in enumerate(boxes.category_ids.tolist())}
    index_of = {image: index for index, image in enumerate(boxes.image_ids.tolist())}
    for entry in truth["images"]:
        if entry["id"] in index_of:
            labels = [label_of[category] for category in entry[field] if category in label_of]
            listed[index_of[entry["id"]], labels] = True
    return listed


def _ap(
    boxes: EvaluatedBoxes,
    pairs: Pairs,
    ranked: RankedClasses,
    excused: np.ndarray,
    area: tuple[float, float] | None,
) -> np.ndarray:
    """[10, K] AP of the objects within an area, at each IoU."""
    outside = np.zeros(len(boxes.truth.area), dtype=bool)
    if area is not None:
        found_area = boxes.found.boxes[:, 2] * boxes.found.boxes[:, 3]
        excused = excused | (found_area < area[0]) | (found_area > area[1])
        outside = (boxes.truth.area < area[0]) | (boxes.truth.area > area[1])
    objects = np.bincount(boxes.truth.label[~outside], minlength=len(boxes.category_ids))
    rows = []
    for iou in IOUS:
        match = match_by_class(boxes, pairs, iou, outside)
        match = Match(match.truth, match.ignored | ((match.truth < 0) & excused))
        rows.append(precision_over_recall(ranked._replace(objects=objects), match).mean(1))
    return np.array(rows)
