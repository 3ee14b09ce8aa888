"""COCO's average precision and recall, computed by pycocotools or by faster-coco-eval."""

import contextlib
import io
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from sparse_rcnn.data.evaluation.flat_boxes import check_results, chosen_ids, truth_dict
from sparse_rcnn.data.formats.detection_dataset import DetectionDataset
from sparse_rcnn.ops.argument_checks import whole_number

__all__ = ["AP", "AR", "EVALUATORS", "SUMMARY", "evaluate_coco", "format_metrics"]

# By the name of the module: the package to install.
EVALUATORS = {"pycocotools": "pycocotools", "faster_coco_eval": "faster-coco-eval"}

AP, AR = "Average Precision  (AP)", "Average Recall     (AR)"
# Name, title, IoU, area and detections per image, in the order of the table that COCO prints.
SUMMARY = (
    ("AP", AP, "0.50:0.95", "all", 100),
    ("AP50", AP, "0.50", "all", 100),
    ("AP75", AP, "0.75", "all", 100),
    ("APs", AP, "0.50:0.95", "small", 100),
    ("APm", AP, "0.50:0.95", "medium", 100),
    ("APl", AP, "0.50:0.95", "large", 100),
    ("AR1", AR, "0.50:0.95", "all", 1),
    ("AR10", AR, "0.50:0.95", "all", 10),
    ("AR100", AR, "0.50:0.95", "all", 100),
    ("ARs", AR, "0.50:0.95", "small", 100),
    ("ARm", AR, "0.50:0.95", "medium", 100),
    ("ARl", AR, "0.50:0.95", "large", 100),
)


def evaluate_coco(
    ground_truth: DetectionDataset | dict[str, Any],
    results: Sequence[dict[str, Any]],
    max_detections: int = 100,
    image_ids: Sequence[int] | None = None,
    category_ids: Sequence[int] | None = None,
    evaluator: str = "pycocotools",
) -> dict[str, float]:
    """Evaluates COCO results over the images of a data set.

    Args:
        ground_truth: A data set, or a dict in COCO's format.
        results: As from `coco_results`, of all images together.
        max_detections: The number of detections of each class that count in an image, best first. COCO's
            table has 100.
        image_ids: The images to evaluate. The default is all.
        category_ids: The classes to evaluate. The default is all.
        evaluator: "pycocotools", or "faster_coco_eval": the same figures in a fifth of the time.

    Returns:
        AP, AP50, AP75, APs, APm, APl, AR1, AR10, AR100, ARs, ARm, ARl, and "AP/NAME" for each class (in
        0..1). With another `max_detections`, N, AR100 is named "ARN". NaN (pycocotools: -1) if there is no
        ground truth of that size or class. If two classes have the same name, all have the key
        "AP/NAME (ID)".

    Raises:
        ValueError: If a result lacks a field, has an unknown image or category, or a number that is not
            finite; if `max_detections` is less than 1; if the chosen images or classes are empty or not in
            the data set; if there is no such evaluator.
        ImportError: If the evaluator is not installed. Nothing else in this library needs pycocotools.

    Example:
        >>> from sparse_rcnn.data import ShapesDataset
        >>> truth = ShapesDataset("shapes", "val", num_images=2).coco_ground_truth()
        >>> results = [{**entry, "score": 1.0} for entry in truth["annotations"]]
        >>> round(evaluate_coco(truth, results)["AP"], 3)
        1.0
    """
    coco, coco_eval = _imported(evaluator)
    max_detections = whole_number("max_detections", max_detections)
    truth = truth_dict(ground_truth)
    check_results(results, truth)
    # Ids start at 1 on both sides: pycocotools marks a match by its id, and 0 means "no match".
    annotations = [
        {"iscrowd": 0, **entry, "id": number} for number, entry in enumerate(truth["annotations"], start=1)
    ]
    for entry in annotations:
        entry.setdefault("area", entry["bbox"][2] * entry["bbox"][3])
    detections = [
        {**entry, "id": number, "area": entry["bbox"][2] * entry["bbox"][3], "iscrowd": 0}
        for number, entry in enumerate(results, start=1)
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        # COCO.loadRes is not used: it fails on an empty list and changes the caller's dicts.
        annotated, found = (_indexed(coco(), truth, entries) for entries in (annotations, detections))
        evaluation = coco_eval(annotated, found, "bbox")
        evaluation.params.imgIds = chosen_ids(image_ids, truth["images"], "image_ids")
        evaluation.params.catIds = chosen_ids(category_ids, truth["categories"], "category_ids")
        evaluation.params.maxDets = sorted({1, 10, max_detections})
        evaluation.evaluate()
        evaluation.accumulate()

    metrics = {
        name: _summarize(evaluation, title, iou, area, most)
        for name, title, iou, area, most in _summary(max_detections)
    }
    names = {category["id"]: category["name"] for category in truth["categories"]}
    ambiguous = len({*names.values()}) < len(names)
    for index, category_id in enumerate(evaluation.params.catIds):
        name = f"{names[category_id]} ({category_id})" if ambiguous else names[category_id]
        metrics[f"AP/{name}"] = _summarize(evaluation, AP, "0.50:0.95", "all", max_detections, index)
    return metrics


def format_metrics(metrics: dict[str, float], max_detections: int = 100) -> str:
    """COCO's summary table of twelve lines.

    Args:
        metrics: The result of `evaluate_coco`.
        max_detections: As for `evaluate_coco`.

    Returns:
        The table.

    Example:
        >>> names = "AP AP50 AP75 APs APm APl AR1 AR10 AR100 ARs ARm ARl".split()
        >>> print(format_metrics(dict.fromkeys(names, 0.5)).splitlines()[0])
         Average Precision  (AP) @[ IoU=0.50:0.95 | area=   all | maxDets=100 ] = 0.500
    """
    return "\n".join(
        f" {title} @[ IoU={iou:<9} | area={area:>6s} | maxDets={most:>3d} ] = {metrics[name]:0.3f}"
        for name, title, iou, area, most in _summary(max_detections)
    )


def _summary(max_detections: int) -> list[tuple[str, str, str, str, int]]:
    """The rows of COCO's table, with another number of detections than 100."""
    return [
        (name.replace("100", str(max_detections)), title, iou, area, max_detections if most == 100 else most)
        for name, title, iou, area, most in SUMMARY
    ]


def _summarize(
    evaluation: Any, title: str, iou: str, area: str, most: int, category: int | None = None
) -> float:
    """A mean as in COCO's table, of one class or of all. pycocotools' own function works for 100 only."""
    settings = evaluation.params
    where = settings.areaRngLbl.index(area), settings.maxDets.index(most)
    values = evaluation.eval["precision" if title == AP else "recall"][..., where[0], where[1]]
    if ":" not in iou:
        values = values[np.isclose(settings.iouThrs, float(iou))]
    if category is not None:
        values = values[..., category]
    values = values[values > -1]  # where there is ground truth
    return float(values.mean()) if values.size else math.nan


def _imported(evaluator: str) -> tuple[Any, Any]:
    """The classes COCO and COCOeval of an evaluator."""
    if evaluator not in EVALUATORS:
        raise ValueError(f"evaluator must be one of {', '.join(EVALUATORS)}, got {evaluator!r}")
    try:
        if evaluator == "pycocotools":
            from pycocotools.coco import COCO
            from pycocotools.cocoeval import COCOeval
        else:
            from faster_coco_eval import COCO
            from faster_coco_eval import COCOeval_faster as COCOeval
    except ImportError as error:
        needed = EVALUATORS[evaluator]
        raise ImportError(f"evaluation needs {needed}: pip install {needed} ({error})") from error
    return COCO, COCOeval


def _indexed(coco: Any, truth: dict[str, Any], annotations: list[dict[str, Any]]) -> Any:
    """A COCO object with these annotations."""
    coco.dataset = {"images": truth["images"], "categories": truth["categories"], "annotations": annotations}
    coco.createIndex()
    return coco
