"""A data set in one table. Read it before training."""

from collections.abc import Mapping

import numpy as np

from sparse_rcnn.data.formats.dataset_remarks import dataset_remarks
from sparse_rcnn.data.formats.detection_dataset import DetectionDataset
from sparse_rcnn.data.formats.object_counts import objects_a_class, objects_an_image

__all__ = ["MOST_CLASSES", "describe_dataset"]

MOST_CLASSES = 30  # rows of the table


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
    return " x ".join(f"{side:g}" for side in np.median(dataset.image_sizes.array, axis=0)[::-1])


def _median_box(dataset: DetectionDataset) -> str:
    boxes = dataset.annotations.boxes[dataset.is_target]
    if not len(boxes):
        return "-"
    return " x ".join(f"{side:.3g}" for side in np.median(boxes[:, 2:] - boxes[:, :2], axis=0))
