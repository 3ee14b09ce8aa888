"""A data set in one table, and what looks wrong with it: to be read before training."""

import hashlib
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from sparse_rcnn.data.formats.detection_dataset import DetectionDataset

__all__ = [
    "HEAD",
    "MANY",
    "MOST_CLASSES",
    "MOST_COMPARED",
    "TINY",
    "CrowdedImages",
    "crowded_images",
    "dataset_remarks",
    "describe_dataset",
    "objects_a_class",
    "objects_an_image",
    "remark_on_proposals",
    "remarks_of",
    "same_contents",
]

TINY = 2.0  # pixels: a box of a smaller side is hardly one that somebody drew
MANY = 0.05  # share of boxes from which a fault is more likely than chance
MOST_COMPARED = 20_000  # images whose contents are compared, unless more are asked for
MOST_CLASSES = 30  # rows of the table
HEAD = 1 << 14  # bytes by which files are compared first


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


def objects_an_image(dataset: DetectionDataset) -> np.ndarray:
    """Boxes to learn from by image, [I] int64."""
    return np.bincount(dataset.annotations.image_indices[dataset.is_target], minlength=len(dataset))


def objects_a_class(dataset: DetectionDataset) -> np.ndarray:
    """Boxes to learn from by class, [K] int64."""
    return np.bincount(dataset.annotations.labels[dataset.is_target], minlength=len(dataset.class_names))


def describe_dataset(
    splits: Mapping[str, DetectionDataset], num_proposals: int | None = None, *, compare_all: bool = False
) -> str:
    """The splits of a data set as a table, with remarks about possible faults.

    Args:
        splits: Data sets by the name of the split. All have the same classes.
        num_proposals: N of the model. If given, images with more objects are named.
        compare_all: Compare the contents of files of different splits even if there are many files.

    Returns:
        Lines of text.

    Example:
        >>> from sparse_rcnn.data import ShapesDataset
        >>> print(describe_dataset({"val": ShapesDataset("shapes", "val", num_images=2)}))
                                      val
        images                          2
        ...
    """
    rows = [("", *splits), *_rows(splits)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip() for row in rows
    ]
    remarks = dataset_remarks(splits, num_proposals, compare_all=compare_all)
    return "\n".join([*lines, *(f"remark: {remark}" for remark in remarks)])


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
        remarks += [f"{name}: {remark}" for remark in (*_of_classes(dataset), *_of_boxes(dataset))]
        if num_proposals is not None and (crowded := remark_on_proposals(dataset, num_proposals)):
            remarks.append(f"{name}: {crowded}")
    total = sum(map(len, splits.values()))
    if len(splits) > 1 and (compare_all or total <= MOST_COMPARED):
        for (one, other), pairs in same_contents(splits).items():
            remarks.append(
                f"{len(pairs)} images are in {one} and in {other} with equal contents, such as {pairs[0][0]} "
                f"and {pairs[0][1]}: figures of {other} will be too good"
            )
    return remarks


def _rows(splits: Mapping[str, DetectionDataset]) -> list[tuple[str, ...]]:
    datasets = list(splits.values())
    counts = [objects_an_image(dataset) for dataset in datasets]
    rows = [
        ("images", *(f"{len(dataset):,}" for dataset in datasets)),
        ("  without boxes", *(f"{np.count_nonzero(count == 0):,}" for count in counts)),
        ("  width x height, median", *map(_median_size, datasets)),
        ("boxes", *(f"{dataset.num_objects:,}" for dataset in datasets)),
        ("  in an image: median, most", *(f"{np.median(count):g}, {count.max()}" for count in counts)),
        ("  width x height, median", *map(_median_box, datasets)),
        ("  clipped to the image", *(f"{dataset.num_clipped:,}" for dataset in datasets)),
        ("  without area, left out", *(f"{dataset.num_dropped:,}" for dataset in datasets)),
        ("ignored regions (crowds)", *(f"{dataset.num_crowd:,}" for dataset in datasets)),
        ("classes", *(f"{len(dataset.class_names):,}" for dataset in datasets)),
    ]
    names = datasets[0].class_names
    by_class = [dict(zip(data.class_names, objects_a_class(data).tolist(), strict=True)) for data in datasets]
    order = sorted(range(len(names)), key=lambda label: -by_class[0][names[label]])
    shown = order if len(order) <= MOST_CLASSES else [*order[: MOST_CLASSES - 5], *order[-5:]]
    for position, label in enumerate(shown):
        if len(shown) < len(order) and position == MOST_CLASSES - 5:
            rows.append((f"  ... and {len(order) - len(shown)} more ...", *("" for _ in datasets)))
        rows.append((f"  {names[label]}", *(f"{count.get(names[label], 0):,}" for count in by_class)))
    return rows


def _median_size(dataset: DetectionDataset) -> str:
    sizes = np.asarray(dataset.image_sizes.array)  # type: ignore[attr-defined]
    return " x ".join(f"{side:g}" for side in np.median(sizes, axis=0)[::-1])


def _median_box(dataset: DetectionDataset) -> str:
    boxes = dataset.annotations.boxes[dataset.is_target]
    if not len(boxes):
        return "-"
    return " x ".join(f"{side:.3g}" for side in np.median(boxes[:, 2:] - boxes[:, :2], axis=0))


def _of_classes(dataset: DetectionDataset) -> list[str]:
    empty = np.flatnonzero(objects_a_class(dataset) == 0).tolist()
    if not empty:
        return []
    named = ", ".join(dataset.class_names[label] for label in empty[:5]) + (", ..." if len(empty) > 5 else "")
    return [f"{len(empty)} of {len(dataset.class_names)} classes have no box: {named}"]


def _of_boxes(dataset: DetectionDataset) -> list[str]:
    """Boxes that are in other units, or in other fields, than the format says, and single ones too small."""
    written = dataset.annotations.written_boxes[dataset.is_target]
    if not len(written):
        return ["there is no box to learn from"]
    boxes = dataset.annotations.boxes[dataset.is_target]
    sides = (boxes[:, 2:] - boxes[:, :2]).min(axis=1)
    if written.max() <= 1:
        return ["all coordinates are below 1: are they fractions of the image, where pixels belong?"]
    remarks = []
    tiny = int(np.count_nonzero(sides < TINY))
    median = float(np.median(sides))
    if median < TINY:
        remarks.append(
            f"the median box is {median:.2g} px wide or high: are these pixels of the image, or of a smaller "
            "copy, or fractions?"
        )
    elif tiny:
        remarks.append(f"{tiny} boxes have a side below {TINY:g} px, the smallest {sides.min():.2g} px")
    if dataset.num_clipped > MANY * len(written):
        share = dataset.num_clipped / len(written)
        remark = f"{dataset.num_clipped} boxes ({share:.0%}) leave their image and are clipped"
        sizes = np.asarray(dataset.image_sizes.array)  # type: ignore[attr-defined]
        limits = sizes[dataset.annotations.image_indices[dataset.is_target]][:, ::-1]  # [M, 2] width, height
        # Read as corners, do (nearly) all of them lie inside, the second right of and below the first?
        # As COCO's fields, x, y, width, height, or as YOLO's, whose first two are the centre.
        for first in (written[:, :2], written[:, :2] + written[:, 2:] / 2):
            corners = (written[:, 2:] > first).all(axis=1) & (written[:, 2:] <= limits + 1).all(axis=1)
            if corners.mean() > 1 - MANY:
                break
        if corners.mean() > 1 - MANY:
            remark += "; read as corners (xyxy) all would fit: are they, where width and height belong?"
        remarks.append(remark)
    return remarks


def same_contents(
    splits: Mapping[str, DetectionDataset],
) -> dict[tuple[str, str], list[tuple[str, str]]]:
    """Image files of equal contents in different splits, by pair of splits.

    Files are compared by length, then by their beginning, then as a whole; those that are not there are none.

    Args:
        splits: Data sets by the name of the split.
    """
    owners = [(name, path) for name, dataset in splits.items() for path in dataset.image_paths]
    for key_of in (_length, _beginning, _digest):
        with ThreadPoolExecutor(8) as threads:
            keys = list(threads.map(key_of, (path for _, path in owners), chunksize=64))
        groups: dict[object, list[tuple[str, str]]] = {}
        for key, owner in zip(keys, owners, strict=True):
            if key is not None:
                groups.setdefault(key, []).append(owner)
        groups = {key: group for key, group in groups.items() if len({name for name, _ in group}) > 1}
        owners = [owner for group in groups.values() for owner in group]
    found: dict[tuple[str, str], list[tuple[str, str]]] = {}
    names = list(splits)
    for group in groups.values():
        first = dict(reversed(group))
        for position, one in enumerate(names):
            for other in names[position + 1 :]:
                if one in first:
                    pairs = [(first[one], path) for name, path in group if name == other]
                    if pairs:
                        found.setdefault((one, other), []).extend(pairs)
    return found


def _length(path: str) -> int | None:
    try:
        return os.stat(path).st_size
    except (OSError, ValueError):
        return None


def _beginning(path: str) -> bytes | None:
    return _hash(path, HEAD)


def _digest(path: str) -> bytes | None:
    return _hash(path, -1)


def _hash(path: str, length: int) -> bytes | None:
    try:
        with open(path, "rb") as stream:
            return hashlib.blake2b(stream.read(length), digest_size=16).digest()
    except (OSError, ValueError):
        return None


def remarks_of(datasets: Sequence[DetectionDataset]) -> list[str]:
    """What was odd in the files of data sets, each once."""
    return list(dict.fromkeys(remark for dataset in datasets for remark in dataset.remarks))
