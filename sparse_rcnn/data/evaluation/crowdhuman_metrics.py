"""CrowdHuman's figures: AP, log-average miss rate (mMR) and Jaccard index (JI) of one class.

Shao et al., "CrowdHuman: A Benchmark for Detecting Human in a Crowd", section 4.1, and the published
evaluation that CrowdDet comes with (Chu et al., "Detection in Crowded Scenes", section 5). Boxes are clipped
to their image. A detection finds a person at an IoU above 0.5, the better score first. One that finds none is
ignored if more than half of it lies in an ignored region.

    AP   area below precision over recall, by trapezia, from the first detection on
    mMR  exp(mean of log(miss rate)) at 0.01, 0.0178, ..., 1 false detections an image
    JI   mean over images of k / (n + m - k): k pairs of the best assignment, n detections, m persons;
         the best of the scores 0, 0.1, ..., 0.9
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from sparse_rcnn.data.evaluation.flat_boxes import EvaluatedBoxes, TruthBoxes, flat_boxes, truth_dict
from sparse_rcnn.data.evaluation.matching import match_by_class
from sparse_rcnn.data.evaluation.overlaps import Pairs, overlapping_pairs
from sparse_rcnn.data.formats.detection_dataset import DetectionDataset
from sparse_rcnn.ops.assignment import linear_sum_assignment

__all__ = ["evaluate_crowdhuman"]

_IOU = 0.5
_FALSE_AN_IMAGE = (0.0100, 0.0178, 0.03160, 0.0562, 0.1000, 0.1778, 0.3162, 0.5623, 1.000)


def evaluate_crowdhuman(
    ground_truth: DetectionDataset | dict[str, Any],
    results: Sequence[dict[str, Any]],
    max_detections: int = 500,
    image_ids: Sequence[int] | None = None,
    category_ids: Sequence[int] | None = None,
) -> dict[str, float]:
    """Evaluates results of one class as CrowdHuman does.

    Args:
        ground_truth: A data set, or a dict in COCO's format. Crowd regions are CrowdHuman's ignored regions.
            Images need their height and width.
        results: As from `coco_results`, of all images together.
        max_detections: The number of detections that count in an image. Published detectors give up to 500.
        image_ids: The images to evaluate. The default is all.
        category_ids: The class to evaluate. The default is the only one.

    Returns:
        AP (higher is better), mMR (lower is better) and JI (higher is better), in 0..1. NaN without persons.

    Raises:
        ValueError: As `evaluate_coco`; if there is more than one class; if an image has no size.

    Example:
        >>> truth = {
        ...     "images": [{"id": 1, "height": 90, "width": 90}],
        ...     "annotations": [{"image_id": 1, "category_id": 1, "bbox": [9.0, 9.0, 30.0, 60.0]}],
        ...     "categories": [{"id": 1, "name": "person"}],
        ... }
        >>> result = {"image_id": 1, "category_id": 1, "bbox": [9.0, 9.0, 30.0, 50.0], "score": 0.9}
        >>> evaluate_crowdhuman(truth, [result])["mMR"]
        0.0
    """
    truth = truth_dict(ground_truth)
    boxes = flat_boxes(truth, results, max_detections, image_ids, category_ids)
    if len(boxes.category_ids) != 1:
        raise ValueError(f"CrowdHuman's figures are of one class, got {len(boxes.category_ids)}")
    boxes = _clipped(boxes, truth)
    persons = int(np.count_nonzero(~boxes.truth.crowd))
    if not persons:
        return dict.fromkeys(("AP", "mMR", "JI"), float("nan"))
    pairs = overlapping_pairs(boxes, _IOU)
    pairs = pairs.chosen(pairs.iou > _IOU)
    match = match_by_class(boxes, pairs, _IOU)
    order = np.argsort(-boxes.found.score, kind="stable")
    order = order[~match.ignored[order]]
    hits, misses = np.cumsum(match.right[order]), np.cumsum(match.wrong[order])
    recall, precision = hits / persons, hits / np.maximum(hits + misses, 1)
    area = np.sum(np.diff(recall) * (precision[1:] + precision[:-1]) / 2)
    return {
        "AP": float(area),
        "mMR": _miss_rate(recall, misses / len(boxes.image_ids)),
        "JI": _jaccard_index(boxes, pairs),
    }


def _clipped(boxes: EvaluatedBoxes, truth: dict[str, Any]) -> EvaluatedBoxes:
    """Boxes within their image; the left upper corner is at most at its last pixel."""
    for entry in truth["images"]:
        if lacking := {"height", "width"} - entry.keys():
            raise ValueError(f"image {entry['id']} has no {min(lacking)!r}, which CrowdHuman's figures need")
    size_of = {entry["id"]: (entry["width"], entry["height"]) for entry in truth["images"]}
    sizes = np.array([size_of[image] for image in boxes.image_ids.tolist()], dtype=float).reshape(-1, 2)

    def clip(part: np.ndarray, image: np.ndarray) -> np.ndarray:
        limit = sizes[image]
        corner = np.minimum(np.maximum(part[:, :2], 0), limit - 1)
        other = np.maximum(np.minimum(part[:, :2] + part[:, 2:], limit), 0)
        return np.concatenate([corner, other - corner], axis=1)

    return boxes._replace(
        truth=boxes.truth._replace(boxes=clip(boxes.truth.boxes, boxes.truth.image)),
        found=boxes.found._replace(boxes=clip(boxes.found.boxes, boxes.found.image)),
    )


def _miss_rate(recall: np.ndarray, false_an_image: np.ndarray) -> float:
    """The log-average miss rate; 1 without detections."""
    if not len(recall):
        return 1.0
    places = np.searchsorted(false_an_image, _FALSE_AN_IMAGE, side="left").clip(max=len(recall) - 1)
    with np.errstate(divide="ignore"):
        return float(np.exp(np.log(1.0 - recall[places]).mean()))


def _jaccard_index(boxes: EvaluatedBoxes, pairs: Pairs) -> float:
    """The best mean Jaccard index over the thresholds of the score."""
    crowd, score, num_images = boxes.truth.crowd, boxes.found.score, len(boxes.image_ids)
    in_region = np.zeros(len(score), dtype=bool)  # [D]
    in_region[pairs.found[crowd[pairs.truth]]] = True
    hidden = _in_regions(boxes.truth, boxes)  # [G]
    pairs = pairs.chosen(~crowd[pairs.truth])
    best = 0.0
    for threshold in np.arange(10) * 1e-1:
        counted = score > threshold
        taken = _assigned(boxes, pairs.chosen(counted[pairs.found]))
        found, person = counted & ~in_region, ~crowd & ~hidden
        found[taken.found], person[taken.truth] = True, True
        n, m, k = (
            np.bincount(image, minlength=num_images)
            for image in (boxes.found.image[found], boxes.truth.image[person], boxes.found.image[taken.found])
        )
        used = int(np.count_nonzero(n + m))
        best = max(best, float((k / (n + m - k + 1e-6)).sum() / used)) if used else best
    return best


def _in_regions(truth: TruthBoxes, boxes: EvaluatedBoxes) -> np.ndarray:
    """[G] bool: persons of which more than half lies in an ignored region."""
    persons = np.flatnonzero(~truth.crowd)
    regions = truth._replace(**{name: column[truth.crowd] for name, column in truth._asdict().items()})
    as_found = boxes.found._replace(image=truth.image[persons], boxes=truth.boxes[persons])
    pairs = overlapping_pairs(boxes._replace(truth=regions, found=as_found), _IOU)
    hidden = np.zeros(len(truth.crowd), dtype=bool)
    hidden[persons[pairs.found[pairs.iou > _IOU]]] = True
    return hidden


def _assigned(boxes: EvaluatedBoxes, pairs: Pairs) -> Pairs:
    """The one-to-one pairs of the largest sum of IoU, image by image."""
    image = boxes.found.image[pairs.found]  # ascending, as the detections are
    parts = np.split(np.arange(len(image)), np.flatnonzero(np.diff(image)) + 1) if len(image) else []
    taken = []
    for rows in parts:
        found, row = np.unique(pairs.found[rows], return_inverse=True)
        truth, column = np.unique(pairs.truth[rows], return_inverse=True)
        cost = torch.zeros(len(found), len(truth), dtype=torch.float64)  # 0: not a pair
        cost[row, column] = -torch.from_numpy(pairs.iou[rows])
        place = np.full(cost.shape, -1)
        place[row, column] = rows
        chosen = linear_sum_assignment(cost, torch.ones(len(truth), dtype=torch.bool)).numpy()
        found_columns = np.flatnonzero(chosen >= 0)
        places = place[chosen[found_columns], found_columns]
        taken.append(places[places >= 0])
    return pairs.chosen(np.concatenate(taken) if taken else np.empty(0, dtype=np.int64))
