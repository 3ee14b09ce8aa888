"""The size that a model's images are resized to, and the resizing: the same for all ways in."""

from typing import NamedTuple

from torch import Tensor
from torchvision.transforms.v2 import functional

__all__ = ["LARGEST_SIDE", "ImageSize", "resize_image"]

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

    A resized `uint8` image is rounded to whole levels. The rounding changes scores by up to 1e-3, so what
    is to find the same must round the same.

    Args:
        image: `[3, H, W]` of any type.
        height: wanted.
        width: wanted.

    Returns:
        `[3, height, width]` of the same type.
    """
    return functional.resize_image(image, [height, width], antialias=True)
