"""All boxes of a data set as flat arrays, and the checks that both readers share.

Arrays instead of a dict per object: the 860k boxes of COCO take 70 MB, and worker processes that fork
share them, because reading an array does not touch reference counts.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

# COCO writes coordinates with two decimals, so x + width may pass the image's edge by rounding alone.
# Such boxes are clipped like any other, but not counted as boxes that leave the image.
ROUNDING = 0.01


class Annotations(NamedTuple):
    """The boxes of a data set, ordered by image and within an image as in the file.

    Attributes:
        ids: [A] int64, as in the file.
        image_indices: [A] int64, ascending index of the image in the data set.
        labels: [A] int64, contiguous 0..K-1.
        written_boxes: [A, 4] float64, xywh in pixels as in the file (what pycocotools compares with).
        boxes: [A, 4] float32, xyxy in pixels, clipped to the image.
        areas: [A] float64, in square pixels.
        is_crowd: [A] bool, regions that are evaluated as ignored and never trained on.
    """

    ids: np.ndarray
    image_indices: np.ndarray
    labels: np.ndarray
    written_boxes: np.ndarray
    boxes: np.ndarray
    areas: np.ndarray
    is_crowd: np.ndarray


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
    annotations: Annotations,
    image_sizes: np.ndarray,
    describe: Callable[[int], str],
    *,
    drop_degenerate: bool,
) -> CheckedAnnotations:
    """Clips boxes to their images, refuses impossible ones and orders all by image.

    Args:
        annotations: Columns in the order of the file; `boxes` not yet clipped, any float type.
        image_sizes: [I, 2] (height, width) of every image in pixels.
        describe: From an index into the columns to "file: annotation id: field value" for messages.
        drop_degenerate: Keep boxes without width or height out of targets instead of refusing them.

    Returns:
        The annotations with float32 `boxes`, and the counts of clipped boxes and of those without area.

    Raises:
        ValueError: For a non-finite box, a negative width or height, or (unless `drop_degenerate`) a box
            that has no width or height inside the image.
    """
    boxes = annotations.boxes
    _refuse(~np.isfinite(boxes).all(axis=1), describe, "is not finite")
    _refuse(np.less(boxes[:, 2:], boxes[:, :2]).any(axis=1), describe, "has a negative width or height")

    limits = image_sizes[annotations.image_indices][:, [1, 0, 1, 0]]  # [A, 4] as width, height, width, height
    clipped = np.clip(boxes, 0, limits)
    moved = (np.abs(clipped - boxes) > ROUNDING).any(axis=1)
    # Judged in float32, which is what training sees: 1e-9 px may be a width in float64 and none here.
    clipped = clipped.astype(np.float32)
    degenerate = np.less_equal(clipped[:, 2:], clipped[:, :2]).any(axis=1)
    if not drop_degenerate and degenerate.any():
        height, width = image_sizes[annotations.image_indices[np.argmax(degenerate)]].tolist()
        reason = f"has no width or height inside its image, {width} x {height} px as annotated"
        how = "drop_degenerate=True, --drop-degenerate-boxes of train.py, leaves such boxes out"
        _refuse(degenerate, describe, f"{reason} ({how})")

    order = np.argsort(annotations.image_indices, kind="stable")
    columns = annotations._replace(boxes=clipped)
    return CheckedAnnotations(
        annotations=Annotations(*(np.ascontiguousarray(column[order]) for column in columns)),
        is_target=(~annotations.is_crowd & ~degenerate)[order],
        num_clipped=int(np.count_nonzero(moved & ~degenerate)),
        num_dropped=int(np.count_nonzero(degenerate)),
    )


def _refuse(wrong: np.ndarray, describe: Callable[[int], str], reason: str) -> None:
    if wrong.any():
        count = int(np.count_nonzero(wrong))
        others = f" (and {count - 1} more like it)" if count > 1 else ""
        raise ValueError(f"{describe(int(np.argmax(wrong)))} {reason}{others}")
