"""All boxes of a data set as flat arrays, and the checks that all readers share.

Arrays instead of a dict per object: the 860k boxes of COCO take 60 MB, and worker processes that fork
share them, because reading an array does not touch reference counts.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

__all__ = ["BLOCK", "ROUNDING", "Annotations", "CheckedAnnotations", "Objects", "check_annotations"]

# COCO writes coordinates with two decimals, so x + width may pass the image's edge by rounding alone.
# Such boxes are clipped like any other, but not counted as boxes that leave the image.
ROUNDING = 0.01
BLOCK = 1 << 20  # boxes checked at a time: temporary arrays stay small


class Objects(NamedTuple):
    """What a reader fills: the objects of a file, in any order.

    Attributes:
        ids: [A] int64, ids of the objects, each once.
        image_indices: [A] int32, index of the image among the reader's images.
        labels: [A] int32, index among the reader's class names.
        boxes: [A, 4] float64, xywh in pixels, as written: not clipped. x and y are edges, so a box over a
            whole image is (0, 0, width, height).
        areas: [A] float64, in square pixels.
        is_crowd: [A] bool, regions that are evaluated as ignored and never trained on.
    """

    ids: np.ndarray
    image_indices: np.ndarray
    labels: np.ndarray
    boxes: np.ndarray
    areas: np.ndarray
    is_crowd: np.ndarray


class Annotations(NamedTuple):
    """The boxes of a data set, ordered by image and within an image as in the file.

    Attributes:
        ids: [A] int64, as in the file.
        image_indices: [A] int32, ascending index of the image in the data set.
        labels: [A] int32, contiguous 0..K-1.
        written_boxes: [A, 4] float64, xywh in pixels as in the file (what pycocotools compares with).
        areas: [A] float64, in square pixels.
        is_crowd: [A] bool, regions that are evaluated as ignored and never trained on.
        boxes: [A, 4] float32, xyxy in pixels, clipped to the image.
    """

    ids: np.ndarray
    image_indices: np.ndarray
    labels: np.ndarray
    written_boxes: np.ndarray
    areas: np.ndarray
    is_crowd: np.ndarray
    boxes: np.ndarray


class CheckedAnnotations(NamedTuple):
    """Checked annotations.

    Attributes:
        annotations: Ordered by image, boxes clipped.
        is_target: [A] bool, boxes to learn from: neither crowd nor without area.
        num_clipped: Boxes that left their image.
        num_dropped: Boxes without area in their image.
    """

    annotations: Annotations
    is_target: np.ndarray
    num_clipped: int
    num_dropped: int


def check_annotations(
    objects: Objects,
    image_sizes: np.ndarray,
    describe: Callable[[int], str],
    *,
    drop_degenerate: bool,
) -> CheckedAnnotations:
    """Clips boxes to their images, refuses impossible ones and orders all by image.

    Args:
        objects: As a reader fills them.
        image_sizes: [I, 2] (height, width) of every image in pixels.
        describe: From an index into the columns to "file: annotation id: field value" for messages.
        drop_degenerate: Keep boxes without width or height out of targets instead of refusing them.

    Returns:
        The annotations with clipped boxes, and the counts of clipped boxes and of those without area.

    Raises:
        ValueError: For a non-finite box, a negative width or height, or (unless `drop_degenerate`) a box
            that has no width or height inside the image. Ignored regions may be without area.
    """
    count = len(objects.ids)
    clipped = np.empty((count, 4), dtype=np.float32)
    infinite, negative, moved = (np.empty(count, dtype=bool) for _ in range(3))
    for start in range(0, count, BLOCK):
        part = slice(start, start + BLOCK)
        corners = objects.boxes[part].astype(np.float64)
        infinite[part] = ~np.isfinite(corners).all(axis=1)
        negative[part] = np.less(corners[:, 2:], 0).any(axis=1)
        with np.errstate(invalid="ignore"):  # infinite ones are refused below
            corners[:, 2:] += corners[:, :2]
            limits = image_sizes[objects.image_indices[part]][:, [1, 0, 1, 0]]  # [A, 4] width, height, twice
            inside = np.clip(corners, 0, limits)
            moved[part] = (np.abs(inside - corners) > ROUNDING).any(axis=1)
        # Training sees float32, so the test is in float32: a width of 1e-9 px may be 0 there.
        clipped[part] = inside
    _refuse(infinite, describe, "is not finite")
    _refuse(negative, describe, "has a negative width or height")
    degenerate = np.less_equal(clipped[:, 2:], clipped[:, :2]).any(axis=1)
    refused = degenerate & ~objects.is_crowd
    if not drop_degenerate and refused.any():
        height, width = image_sizes[objects.image_indices[np.argmax(refused)]].tolist()
        reason = f"has no width or height inside its image, {width} x {height} px as annotated"
        how = "drop_degenerate=True, --drop-degenerate-boxes of train.py, leaves such boxes out"
        _refuse(refused, describe, f"{reason} ({how})")

    annotations = Annotations(*objects, boxes=clipped)
    is_target = ~objects.is_crowd & ~degenerate
    if np.less(np.diff(objects.image_indices), 0).any():
        order = np.argsort(objects.image_indices, kind="stable")
        annotations = Annotations(*(column[order] for column in annotations))
        is_target = is_target[order]
    return CheckedAnnotations(
        annotations,
        is_target,
        num_clipped=int(np.count_nonzero(moved & ~degenerate)),
        num_dropped=int(np.count_nonzero(degenerate)),
    )


def _refuse(wrong: np.ndarray, describe: Callable[[int], str], reason: str) -> None:
    if wrong.any():
        count = int(np.count_nonzero(wrong))
        others = f" (and {count - 1} more like it)" if count > 1 else ""
        raise ValueError(f"{describe(int(np.argmax(wrong)))} {reason}{others}")
