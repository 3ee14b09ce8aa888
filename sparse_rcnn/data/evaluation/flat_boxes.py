"""Ground truth and detections as flat arrays, which the analysis counts over."""

import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from sparse_rcnn.data.formats.detection_dataset import DetectionDataset
from sparse_rcnn.ops.argument_checks import whole_number

__all__ = [
    "EvaluatedBoxes",
    "FoundBoxes",
    "TruthBoxes",
    "check_results",
    "chosen_ids",
    "flat_boxes",
    "rank_in_group",
    "truth_dict",
]


class TruthBoxes(NamedTuple):
    """The annotated boxes, ordered by image and within an image as in the file.

    Attributes:
        image: [G] int64, index of the image.
        label: [G] int64, index of the class.
        boxes: [G, 4] float64, xywh in pixels.
        area: [G] float64, in square pixels, as annotated.
        crowd: [G] bool, regions that are ignored.
        row: [G] int64, index in the annotations of the ground truth.
    """

    image: np.ndarray
    label: np.ndarray
    boxes: np.ndarray
    area: np.ndarray
    crowd: np.ndarray
    row: np.ndarray


class FoundBoxes(NamedTuple):
    """The detections, ordered by image and within an image by falling score.

    Attributes:
        image: [D] int64, index of the image.
        label: [D] int64, index of the class.
        boxes: [D, 4] float64, xywh in pixels.
        score: [D] float64.
        row: [D] int64, index in the results.
    """

    image: np.ndarray
    label: np.ndarray
    boxes: np.ndarray
    score: np.ndarray
    row: np.ndarray


class EvaluatedBoxes(NamedTuple):
    """Ground truth and detections of the same images and classes.

    Attributes:
        image_ids: [I] int64, ascending ids of the images.
        category_ids: [K] int64, ascending ids of the classes.
        class_names: The K names.
        truth: The annotated boxes.
        found: The detections.
    """

    image_ids: np.ndarray
    category_ids: np.ndarray
    class_names: list[str]
    truth: TruthBoxes
    found: FoundBoxes


def flat_boxes(
    ground_truth: DetectionDataset | dict[str, Any],
    results: Sequence[dict[str, Any]],
    max_detections: int = 100,
    image_ids: Sequence[int] | None = None,
    category_ids: Sequence[int] | None = None,
) -> EvaluatedBoxes:
    """Ground truth and results as arrays. Arguments and errors are those of `evaluate_coco`.

    Returns:
        Of each class and image, the `max_detections` best detections. Of equal scores, the first in the
        results comes first, as in pycocotools.
    """
    max_detections = whole_number("max_detections", max_detections)
    truth = truth_dict(ground_truth)
    check_results(results, truth)
    images = np.array(chosen_ids(image_ids, truth["images"], "image_ids"), dtype=np.int64)
    classes = np.array(chosen_ids(category_ids, truth["categories"], "category_ids"), dtype=np.int64)
    names = {category["id"]: str(category["name"]) for category in truth["categories"]}

    entries = truth["annotations"]
    image, label, boxes, kept = _columns(entries, images, classes)
    area = np.array([e["area"] if "area" in e else e["bbox"][2] * e["bbox"][3] for e in entries], dtype=float)
    crowd = np.array([bool(e.get("iscrowd", 0)) for e in entries], dtype=bool)
    order = kept[np.argsort(image[kept], kind="stable")]
    annotated = TruthBoxes(image[order], label[order], boxes[order], area[order], crowd[order], order)

    image, label, boxes, kept = _columns(results, images, classes)
    score = np.fromiter((result["score"] for result in results), dtype=np.float64, count=len(results))
    order = kept[np.lexsort((-score[kept], image[kept]))]
    order = order[rank_in_group(image[order] * len(classes) + label[order]) < max_detections]
    found = FoundBoxes(image[order], label[order], boxes[order], score[order], order)
    return EvaluatedBoxes(images, classes, [names[key] for key in classes.tolist()], annotated, found)


def truth_dict(ground_truth: DetectionDataset | dict[str, Any]) -> dict[str, Any]:
    """The ground truth in COCO's format, its sections looked for."""
    truth = ground_truth if isinstance(ground_truth, dict) else ground_truth.coco_ground_truth()
    for section in ("images", "annotations", "categories"):
        if section not in truth:
            raise ValueError(f"the ground truth has no {section!r}, got {sorted(truth)}")
    return truth


def chosen_ids(ids: Sequence[int] | None, entries: list[dict[str, Any]], name: str) -> list[int]:
    """The chosen ids in ascending order, all of them by default."""
    known = sorted({entry["id"] for entry in entries})
    if ids is None:
        return known
    ids = [whole_number(name, one, -(2**63)) for one in ids]
    unknown = sorted({*ids} - {*known})
    if unknown or not ids:
        found = f"{unknown[:5]}, which it does not have" if unknown else "none"
        raise ValueError(f"{name} must be ids of the data set, got {found}")
    return sorted({*ids})


def check_results(results: Sequence[dict[str, Any]], truth: dict[str, Any]) -> None:
    """Refuses results that lack a field, have an unknown image or class, or a number that is not finite."""
    image_ids = {image["id"] for image in truth["images"]}
    category_ids = {category["id"] for category in truth["categories"]}
    fields = {"image_id", "category_id", "bbox", "score"}
    for index, result in enumerate(results):
        if not fields <= result.keys():
            raise ValueError(f"result {index} has no {sorted(fields - result.keys())}: {result}")
        if result["image_id"] not in image_ids:
            raise ValueError(
                f"result {index} has image_id {result['image_id']}, which is not in the data set"
            )
        if result["category_id"] not in category_ids:
            raise ValueError(
                f"result {index} has category_id {result['category_id']}, which is not in the data set"
            )
        if len(result["bbox"]) != 4 or not all(map(math.isfinite, (*result["bbox"], result["score"]))):
            raise ValueError(f"result {index} needs a bbox of four numbers and a score, all finite: {result}")


def rank_in_group(group: np.ndarray) -> np.ndarray:
    """[D] how many earlier entries belong to the same group."""
    order = np.argsort(group, kind="stable")
    first = np.searchsorted(group[order], group[order], side="left")
    rank = np.empty(len(group), dtype=np.int64)
    rank[order] = np.arange(len(group)) - first
    return rank


def _columns(
    entries: Sequence[dict[str, Any]], images: np.ndarray, classes: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Index of the image and of the class, box, and which entries are of the chosen images and classes."""

    def index(field: str, known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        ids = np.fromiter((entry[field] for entry in entries), dtype=np.int64, count=len(entries))
        places = np.searchsorted(known, ids).clip(max=max(len(known) - 1, 0))
        return places, known[places] == ids if len(known) else np.zeros(len(ids), dtype=bool)

    numbers: Iterable[float] = (number for entry in entries for number in entry["bbox"])
    boxes = np.fromiter(numbers, dtype=np.float64, count=4 * len(entries)).reshape(-1, 4)
    (image, image_known), (label, label_known) = index("image_id", images), index("category_id", classes)
    return image, label, boxes, np.flatnonzero(image_known & label_known)
