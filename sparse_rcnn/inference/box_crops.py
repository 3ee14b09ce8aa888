"""Cuts the boxes of objects out of a photo."""

import math

from einops import rearrange
from PIL import Image
from torch import Tensor

__all__ = ["crop_boxes"]


def crop_boxes(pixels: Tensor, boxes: Tensor) -> list[Image.Image]:
    """A picture for each box. It has whole pixels, and at least one.

    Args:
        pixels: [3, H, W] uint8, the photo.
        boxes: [D, 4] xyxy in pixels, clipped to the photo.

    Returns:
        D pictures.

    Example:
        >>> import torch
        >>> photo = torch.zeros(3, 9, 9, dtype=torch.uint8)
        >>> [crop.size for crop in crop_boxes(photo, torch.tensor([[0.5, 1, 3, 3]]))]
        [(3, 2)]
    """
    height, width = pixels.shape[1:]
    parts = []
    for x1, y1, x2, y2 in boxes.tolist():
        left, top = min(int(x1), width - 1), min(int(y1), height - 1)
        right, bottom = max(left + 1, math.ceil(x2)), max(top + 1, math.ceil(y2))
        part = rearrange(pixels[:, top:bottom, left:right], "c h w -> h w c")
        parts.append(Image.fromarray(part.contiguous().numpy()))
    return parts
