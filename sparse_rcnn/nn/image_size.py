"""The size that a model's images are resized to, and the resizing: the same for all ways in."""

from typing import NamedTuple

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional

LARGEST_SIDE = 65_536


class ImageSize(NamedTuple):
    """What images are resized to before a model sees them; the default is the paper's.

    Attributes:
        shortest_side: wanted length of the shorter side in pixels.
        longest_side: most that the longer side may have; where it binds, the shorter side gets shorter.
    """

    shortest_side: int = 800
    longest_side: int = 1333


def resize_image(image: Tensor, height: int, width: int) -> Tensor:
    """An image in another size, as the data set's transforms and the scripts resize it.

    A resized ``uint8`` image is rounded to whole levels. The rounding changes scores by up to 1e-3, so what
    is to find the same must round the same.

    Args:
        image: ``[3, H, W]`` of any type.
        height: wanted.
        width: wanted.

    Returns:
        ``[3, height, width]`` of the same type.
    """
    return functional.resize_image(image, [height, width], antialias=True)


def as_levels(image: Tensor) -> Tensor:
    """An image in uint8 if it holds whole levels of 0..255, as image files do; others in floating point.

    Args:
        image: ``[3, H, W]`` of any type; floating pixels are in 0..1.

    Returns:
        ``[3, H, W]``, ``uint8`` 0..255 or floating 0..1.
    """
    if image.dtype == torch.uint8 or image.requires_grad:
        return image
    levels = image * 255 if image.is_floating_point() else image.float()
    whole = levels.round()
    if bool(((levels - whole).abs() < 1e-3).all() & (whole >= 0).all() & (whole <= 255).all()):
        return whole.to(torch.uint8)
    return image if image.is_floating_point() else levels / 255
