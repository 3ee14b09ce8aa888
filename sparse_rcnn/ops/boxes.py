"""Boxes: formats, area, clipping and rescaling. A box is (x1, y1, x2, y2) unless a name says otherwise."""

import torch
from torch import Tensor


def at_least_float32(x: Tensor) -> Tensor:
    """``x`` in float32 if it is of an integer or half-precision type, unchanged otherwise.

    Box and loss arithmetic is never done in half precision: at a coordinate of 1000 px, bfloat16
    resolves 4 to 8 px.
    """
    if x.dtype == torch.float64:
        return x
    return x.to(torch.float32)


def cxcywh_to_xyxy(boxes: Tensor) -> Tensor:
    """(center x, center y, width, height) to (x1, y1, x2, y2).

    Args:
        boxes: ``[..., 4]`` in any unit.

    Returns:
        ``[..., 4]`` in the same unit.
    """
    center, half = boxes[..., :2], 0.5 * boxes[..., 2:]
    return torch.cat((center - half, center + half), dim=-1)


def xyxy_to_cxcywh(boxes: Tensor) -> Tensor:
    """(x1, y1, x2, y2) to (center x, center y, width, height).

    Args:
        boxes: ``[..., 4]`` in any unit.

    Returns:
        ``[..., 4]`` in the same unit.
    """
    low, high = boxes[..., :2], boxes[..., 2:]
    return torch.cat((0.5 * (low + high), high - low), dim=-1)


def box_area(boxes: Tensor) -> Tensor:
    """Area, 0 for a box whose corners are swapped (a box of negative width or height is empty).

    Args:
        boxes: ``[..., 4]`` xyxy.

    Returns:
        ``[...]`` in square units, at least float32.
    """
    boxes = at_least_float32(boxes)
    size = (boxes[..., 2:] - boxes[..., :2]).clamp(min=0)
    return size[..., 0] * size[..., 1]


def whwh(image_sizes: Tensor) -> Tensor:
    """Image sizes (height, width) as the box scale (width, height, width, height).

    Args:
        image_sizes: ``[..., 2]`` (height, width) in pixels.

    Returns:
        ``[..., 4]``, at least float32.
    """
    height, width = at_least_float32(image_sizes).unbind(-1)
    return torch.stack((width, height, width, height), dim=-1)


def clip_boxes(boxes: Tensor, image_sizes: Tensor) -> Tensor:
    """Moves every corner into its image.

    Args:
        boxes: ``[B, N, 4]`` xyxy in pixels.
        image_sizes: ``[B, 2]`` (height, width) in pixels, on any device.

    Returns:
        ``[B, N, 4]`` with 0 <= x <= width and 0 <= y <= height.
    """
    boxes = at_least_float32(boxes)
    limit = whwh(image_sizes).to(boxes)[..., None, :]  # [B, 1, 4]
    return torch.minimum(boxes.clamp(min=0), limit)


def rescale_boxes(boxes: Tensor, from_sizes: Tensor, to_sizes: Tensor) -> Tensor:
    """Boxes of a resized image in the pixels of another size of the same image.

    Args:
        boxes: ``[B, N, 4]`` xyxy in pixels of images of ``from_sizes``.
        from_sizes: ``[B, 2]`` (height, width) the boxes refer to.
        to_sizes: ``[B, 2]`` (height, width) wanted.

    Returns:
        ``[B, N, 4]`` xyxy in pixels of images of ``to_sizes``.
    """
    boxes = at_least_float32(boxes)
    scale = whwh(to_sizes).to(boxes) / whwh(from_sizes).to(boxes)  # [B, 4]
    return boxes * scale[..., None, :]
