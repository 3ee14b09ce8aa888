"""Remarks on what looks wrong in a data set. Read them before training."""

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from sparse_rcnn.data.formats.counted import counted
from sparse_rcnn.data.formats.detection_dataset import DetectionDataset
from sparse_rcnn.data.formats.equal_files import same_contents
from sparse_rcnn.data.formats.object_counts import objects_a_class, objects_an_image

__all__ = [
    "MANY",
    "MOST_COMPARED",
    "TINY",
    "CrowdedImages",
    "crowded_images",
    "dataset_remarks",
    "remark_on_proposals",
    "remarks_of",
]

TINY = 2.0  # pixels: people hardly draw smaller boxes
MANY = 0.05  # a greater share of boxes is more likely a fault than chance
MOST_COMPARED = 20_000  # images whose contents are compared, unless more are asked for


class CrowdedImages(NamedTuple):
    """Images with more objects than a model has proposals: the rest of the objects cannot be matched.

    Attributes:
        num_images: How many there are.
        most: The most objects in an image, of all images.
        unmatched: Objects that are too many, over all images.
        example: The path of the image with the most.
    """

    num_images: int
    most: int
    unmatched: int
    example: str


def crowded_images(dataset: DetectionDataset, num_proposals: int) -> CrowdedImages:
    """Counts the images that have more objects than there are proposals.

    Args:
        dataset: The data set. Crowd regions and boxes without area do not count.
        num_proposals: N of the model.

    Returns:
        The number of such images and objects, and an example.

    Example:
        >>> from sparse_rcnn.data import ShapesDataset
        >>> crowded_images(ShapesDataset("shapes", "val", num_images=2), num_proposals=100).num_images
        0
    """
    counts = objects_an_image(dataset)
    most = int(np.argmax(counts))
    return CrowdedImages(
        num_images=int(np.count_nonzero(counts > num_proposals)),
        most=int(counts[most]),
        unmatched=int(np.maximum(counts - num_proposals, 0).sum()),
        example=dataset.image_paths[most],
    )


def dataset_remarks(
    splits: Mapping[str, DetectionDataset], num_proposals: int | None = None, *, compare_all: bool = False
) -> list[str]:
    """Possible faults of a data set.

    Args:
        splits: As for `describe_dataset`.
        num_proposals: As for `describe_dataset`.
        compare_all: As for `describe_dataset`.

    Returns:
        One sentence for each fault.

    Example:
        >>> from sparse_rcnn.data import DetectionDataset
        >>> dataset = DetectionDataset.from_boxes(["photo.jpg"], [[[9, 9, 90, 90]]], [[0]], ["cat", "dog"])
        >>> dataset_remarks({"train": dataset})
        ['train: 1 of 2 classes have no box: dog']
    """
    remarks = []
    for name, dataset in splits.items():
        found = (*_of_classes(dataset), *_of_boxes(dataset), *_of_repeats(dataset))
        remarks += [f"{name}: {remark}" for remark in found]
        if num_proposals is not None and (crowded := remark_on_proposals(dataset, num_proposals)):
            remarks.append(f"{name}: {crowded}")
    total = sum(map(len, splits.values()))
    if len(splits) > 1 and (compare_all or total <= MOST_COMPARED):
        for (one, other), pairs in same_contents(splits).items():
            remarks.append(
                f"{counted(len(pairs), 'image is', 'images are')} in {one} and in {other} with equal "
                f"contents, such as {pairs[0][0]} and {pairs[0][1]}: figures of {other} will be too good"
            )
    return remarks


def remark_on_proposals(dataset: DetectionDataset, num_proposals: int) -> str:
    """A sentence about images with more objects than proposals; empty if there are none."""
    crowded = crowded_images(dataset, num_proposals)
    if crowded.num_images == 0:
        return ""
    return (
        f"{crowded.num_images} of {len(dataset)} images have more objects than the {num_proposals} "
        f"proposals, up to {crowded.most} ({crowded.example}). In each step with such an image, only "
        f"{num_proposals} of its objects are matched: {crowded.unmatched} of {dataset.num_objects} objects "
        f"are not learnt from. --num-proposals {crowded.most} has room for all"
    )


def remarks_of(datasets: Sequence[DetectionDataset]) -> list[str]:
    """What was odd in the files of data sets, each once."""
    return list(dict.fromkeys(remark for dataset in datasets for remark in dataset.remarks))


def _of_classes(dataset: DetectionDataset) -> list[str]:
    remarks = []
    alike: dict[str, list[str]] = {}
    for name in dataset.class_names:
        alike.setdefault(re.sub(r"[\s_-]+", " ", name).casefold(), []).append(name)
    if spellings := next((names for names in alike.values() if len(names) > 1), None):
        said = " and ".join(map(repr, spellings))
        remarks.append(
            f"the classes {said} differ in spelling only: if they are one, --classes joins them, as in "
            f"--classes '{spellings[0]}={','.join(spellings)}', with the names of all other classes"
        )
    empty = np.flatnonzero(objects_a_class(dataset) == 0).tolist()
    if not empty:
        return remarks
    named = ", ".join(dataset.class_names[label] for label in empty[:5]) + (", ..." if len(empty) > 5 else "")
    return [*remarks, f"{len(empty)} of {len(dataset.class_names)} classes have no box: {named}"]


def _of_boxes(dataset: DetectionDataset) -> list[str]:
    """Boxes in wrong units or wrong fields, and boxes that are too small."""
    written = dataset.annotations.written_boxes[dataset.is_target]
    if not len(written):
        return ["there is no box to learn from"]
    boxes = dataset.annotations.boxes[dataset.is_target]
    sides = (boxes[:, 2:] - boxes[:, :2]).min(axis=1)
    if written.max() <= 1:
        return ["all coordinates are below 1: are they fractions of the image, and not pixels?"]
    remarks = []
    flat = int(np.count_nonzero((dataset.annotations.areas[dataset.is_target] == 0) & (sides > 0)))
    if flat:
        have = counted(flat, "box has", "boxes have")
        remarks.append(f"{have} 'area' 0 in the file: figures by size (APs, APm, APl) take them as small")
    tiny = int(np.count_nonzero(sides < TINY))
    median = float(np.median(sides))
    if median < TINY:
        remarks.append(
            f"the median box is {median:.2g} px wide or high: are these pixels of the image, or of a smaller "
            "copy, or fractions?"
        )
    elif tiny:
        have = counted(tiny, "box has", "boxes have")
        remarks.append(f"{have} a side below {TINY:g} px, the smallest {sides.min():.2g} px")
    if dataset.num_clipped > MANY * len(written):
        share = dataset.num_clipped / len(written)
        boxes_leave = counted(dataset.num_clipped, "box leaves its", "boxes leave their")
        remark = f"{boxes_leave} image and are clipped ({share:.0%})"
        sizes = dataset.image_sizes.array
        limits = sizes[dataset.annotations.image_indices[dataset.is_target]][:, ::-1]  # [M, 2] width, height
        # If they are corners, the second one is inside the image, to the right of the first and below it.
        # The fields may be COCO's (x, y, width, height) or YOLO's (first the centre).
        for first in (written[:, :2], written[:, :2] + written[:, 2:] / 2):
            corners = (written[:, 2:] > first).all(axis=1) & (written[:, 2:] <= limits + 1).all(axis=1)
            if corners.mean() > 1 - MANY:
                break
        if corners.mean() > 1 - MANY:
            remark += "; as corners (xyxy), all would fit: are they corners, and not width and height?"
        remarks.append(remark)
    return remarks


def _of_repeats(dataset: DetectionDataset) -> list[str]:
    """Objects that are in an image twice: a model learns to find them twice."""
    rows = np.flatnonzero(dataset.is_target)
    annotations = dataset.annotations
    columns = (*annotations.boxes[rows].T, annotations.labels[rows], annotations.image_indices[rows])
    order = np.lexsort(columns)
    repeats = np.logical_and.reduce([column[order[1:]] == column[order[:-1]] for column in columns])
    count = int(np.count_nonzero(repeats))
    if count == 0:
        return []
    image = dataset.image_paths[annotations.image_indices[rows[order[1:][repeats]]].min()]
    return [
        f"{counted(count, 'box is a copy', 'boxes are copies')} of another box of the same class and image, "
        f"such as in {image}: a model learns to find the object twice"
    ]
