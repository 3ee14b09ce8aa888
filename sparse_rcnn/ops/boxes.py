"""Boxes: formats, area, clipping and rescaling. A box is (x1, y1, x2, y2) unless a name says otherwise."""

import torch
from torch import Tensor

from sparse_rcnn.ops.guards import require_boxes, require_broadcast, require_sizes

__all__ = [
    "at_least_float32",
    "box_area",
    "clip_boxes",
    "cxcywh_to_xyxy",
    "largest",
    "rescale_boxes",
    "whwh",
    "xyxy_to_cxcywh",
]


def at_least_float32(x: Tensor) -> Tensor:
    """`x` in float32 if it is of an integer or half-precision type, unchanged otherwise.

    Box and loss arithmetic is never done in half precision: at a coordinate of 1000 px, bfloat16
    resolves 4 to 8 px.
    """
    if x.dtype == torch.float64:
        return x
    return x.to(torch.float32)


def largest(x: Tensor) -> float:
    """The largest number of a tensor's type, float32 or float64."""
    return 1.7976931348623157e308 if x.dtype == torch.float64 else 3.4028234663852886e38


def cxcywh_to_xyxy(boxes: Tensor) -> Tensor:
    """(center x, center y, width, height) to (x1, y1, x2, y2).

    Args:
        boxes: `[..., 4]` in any unit.

    Returns:
        `[..., 4]` in the same unit.
    """
    require_boxes("boxes", boxes, "CXCYWH")
    center, half = boxes[..., :2], 0.5 * boxes[..., 2:]
    return torch.cat((center - half, center + half), dim=-1)


def xyxy_to_cxcywh(boxes: Tensor) -> Tensor:
    """(x1, y1, x2, y2) to (center x, center y, width, height).

    Args:
        boxes: `[..., 4]` in any unit.

    Returns:
        `[..., 4]` in the same unit.
    """
    require_boxes("boxes", boxes)
    low, high = boxes[..., :2], boxes[..., 2:]
    return torch.cat((0.5 * (low + high), high - low), dim=-1)


def box_area(boxes: Tensor) -> Tensor:
    """Area, 0 for a box whose corners are swapped (a box of negative width or height is empty).

    Args:
        boxes: `[..., 4]` xyxy.

    Returns:
        `[...]` in square units, at least float32; infinite where the type has no larger number.
    """
    require_boxes("boxes", boxes)
    boxes = at_least_float32(boxes)
    # A side that overflows is the largest number: infinity times the 0 of the other side would be NaN.
    size = (boxes[..., 2:] - boxes[..., :2]).clamp(0.0, largest(boxes))
    return size[..., 0] * size[..., 1]


def whwh(image_sizes: Tensor) -> Tensor:
    """Image sizes (height, width) as the box scale (width, height, width, height).

    Args:
        image_sizes: `[..., 2]` (height, width) in pixels.

    Returns:
        `[..., 4]`, at least float32.
    """
    require_sizes("image_sizes", image_sizes)
    height, width = at_least_float32(image_sizes).unbind(-1)
    return torch.stack((width, height, width, height), dim=-1)


def clip_boxes(boxes: Tensor, image_sizes: Tensor) -> Tensor:
    """Moves every corner into its image.

    Args:
        boxes: `[B, N, 4]` xyxy in pixels.
        image_sizes: `[B, 2]` (height, width) in pixels, on any device.

    Returns:
        `[B, N, 4]` with 0 <= x <= width and 0 <= y <= height.

    Raises:
        ValueError: if an argument is no tensor of real numbers, or its shape or an image size does not fit.
    """
    require_boxes("boxes", boxes)
    require_sizes("image_sizes", image_sizes)
    require_broadcast("boxes", boxes, "image_sizes", image_sizes[..., None, :1])
    boxes = at_least_float32(boxes)
    limit = whwh(image_sizes).to(boxes)[..., None, :]  # [B, 1, 4]
    return torch.minimum(boxes.clamp(min=0), limit)


def rescale_boxes(boxes: Tensor, from_sizes: Tensor, to_sizes: Tensor) -> Tensor:
    """Boxes of a resized image in the pixels of another size of the same image.

    Args:
        boxes: `[B, N, 4]` xyxy in pixels of images of `from_sizes`.
        from_sizes: `[B, 2]` (height, width) the boxes refer to.
        to_sizes: `[B, 2]` (height, width) wanted.

    Returns:
        `[B, N, 4]` xyxy in pixels of images of `to_sizes`.

    Raises:
        ValueError: if an argument is no tensor of real numbers, or its shape or a size does not fit.
    """
    require_boxes("boxes", boxes)
    require_sizes("from_sizes", from_sizes)
    require_sizes("to_sizes", to_sizes)
    require_broadcast("boxes", boxes, "from_sizes", from_sizes[..., None, :1])
    require_broadcast("boxes", boxes, "to_sizes", to_sizes[..., None, :1])
    require_broadcast("from_sizes", from_sizes, "to_sizes", to_sizes)
    boxes = at_least_float32(boxes)
    scale = whwh(to_sizes).to(boxes) / whwh(from_sizes).to(boxes)  # [B, 4]
    return boxes * scale[..., None, :]
