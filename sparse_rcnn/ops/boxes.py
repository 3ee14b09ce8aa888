"""Boxes: formats, area, clipping and rescaling. A box is (x1, y1, x2, y2), unless a name says otherwise."""

import torch
from torch import Tensor

from sparse_rcnn.ops.argument_checks import require_boxes, require_broadcast, require_sizes

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
    """`x` in float32, or unchanged if it is float64.

    Box and loss arithmetic is never done in half precision. At a coordinate of 1000 px, bfloat16 has steps
    of 4 to 8 px.
    """
    if x.dtype == torch.float64:
        return x
    return x.to(torch.float32)


def largest(x: Tensor) -> float:
    """The largest number of a tensor's type, float32 or float64."""
    return 1.7976931348623157e308 if x.dtype == torch.float64 else 3.4028234663852886e38


def cxcywh_to_xyxy(boxes: Tensor) -> Tensor:
    """Converts (center x, center y, width, height) to (x1, y1, x2, y2).

    Args:
        boxes: `[..., 4]` in any unit.

    Returns:
        `[..., 4]` in the same unit.

    Raises:
        ValueError: If `boxes` is no tensor `[..., 4]` of real numbers.

    Example:
        >>> cxcywh_to_xyxy(torch.tensor([5.0, 5.0, 4.0, 2.0]))
        tensor([3., 4., 7., 6.])
    """
    require_boxes("boxes", boxes, "CXCYWH")
    center, half = boxes[..., :2], 0.5 * boxes[..., 2:]
    return torch.cat((center - half, center + half), dim=-1)


def xyxy_to_cxcywh(boxes: Tensor) -> Tensor:
    """Converts (x1, y1, x2, y2) to (center x, center y, width, height).

    Args:
        boxes: `[..., 4]` in any unit.

    Returns:
        `[..., 4]` in the same unit.

    Raises:
        ValueError: If `boxes` is no tensor `[..., 4]` of real numbers.

    Example:
        >>> xyxy_to_cxcywh(torch.tensor([3.0, 4.0, 7.0, 6.0]))
        tensor([5., 5., 4., 2.])
    """
    require_boxes("boxes", boxes)
    low, high = boxes[..., :2], boxes[..., 2:]
    return torch.cat((0.5 * (low + high), high - low), dim=-1)


def box_area(boxes: Tensor) -> Tensor:
    """Area of boxes. A box of negative width or height is empty: its area is 0.

    Args:
        boxes: `[..., 4]` xyxy in any unit.

    Returns:
        `[...]` in square units, at least float32. Infinite if the area is too large for the type.

    Raises:
        ValueError: If `boxes` is no tensor `[..., 4]` of real numbers.

    Example:
        >>> box_area(torch.tensor([[0.0, 0.0, 4.0, 3.0], [4.0, 0.0, 0.0, 3.0]]))
        tensor([12.,  0.])
    """
    require_boxes("boxes", boxes)
    boxes = at_least_float32(boxes)
    # A side that overflows becomes the largest number: infinity times a side of 0 would be NaN.
    size = (boxes[..., 2:] - boxes[..., :2]).clamp(0.0, largest(boxes))
    return size[..., 0] * size[..., 1]


def whwh(image_sizes: Tensor) -> Tensor:
    """Image sizes (height, width) as the scale of a box, (width, height, width, height).

    Args:
        image_sizes: `[..., 2]` (height, width) in pixels.

    Returns:
        `[..., 4]` in pixels, at least float32.

    Raises:
        ValueError: If `image_sizes` is no tensor `[..., 2]` of real numbers, or a size is below 1.

    Example:
        >>> whwh(torch.tensor([480, 640]))
        tensor([640., 480., 640., 480.])
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
        `[B, N, 4]` in pixels, with 0 <= x <= width and 0 <= y <= height.

    Raises:
        ValueError: If an argument is no tensor of real numbers, or a shape or an image size does not fit.

    Example:
        >>> clip_boxes(torch.tensor([[[-5.0, 10.0, 700.0, 500.0]]]), torch.tensor([[480, 640]]))
        tensor([[[  0.,  10., 640., 480.]]])
    """
    require_boxes("boxes", boxes)
    require_sizes("image_sizes", image_sizes)
    require_broadcast("boxes", boxes, "image_sizes", image_sizes[..., None, :1])
    boxes = at_least_float32(boxes)
    limit = whwh(image_sizes).to(boxes)[..., None, :]  # [B, 1, 4]
    return torch.minimum(boxes.clamp(min=0), limit)


def rescale_boxes(boxes: Tensor, from_sizes: Tensor, to_sizes: Tensor) -> Tensor:
    """Moves boxes along when their images are resized.

    Args:
        boxes: `[B, N, 4]` xyxy in pixels of images of `from_sizes`.
        from_sizes: `[B, 2]` (height, width) before the resizing.
        to_sizes: `[B, 2]` (height, width) after the resizing.

    Returns:
        `[B, N, 4]` xyxy in pixels of images of `to_sizes`.

    Raises:
        ValueError: If an argument is no tensor of real numbers, or a shape or a size does not fit.

    Example:
        >>> half, full = torch.tensor([[240, 320]]), torch.tensor([[480, 640]])
        >>> rescale_boxes(torch.tensor([[[1.0, 2.0, 3.0, 4.0]]]), half, full)
        tensor([[[2., 4., 6., 8.]]])
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
