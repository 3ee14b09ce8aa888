"""The size to which a model's images are resized, and the resizing itself. All code uses this one."""

import platform
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["LARGEST_SIDE", "RESIZES_BYTES", "ImageSize", "as_levels", "resize_image"]

LARGEST_SIDE = 65_536
# torchvision's rule: elsewhere, PyTorch resizes bytes more slowly than floats.
RESIZES_BYTES = torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512") or platform.machine() in (
    "aarch64",
    "arm64",
)


class ImageSize(NamedTuple):
    """The size to which images are resized before a model gets them. The default is the paper's.

    Attributes:
        shortest_side: The wanted length of the shorter side in pixels.
        longest_side: The limit of the longer side in pixels. If the longer side would exceed it, the whole
            image becomes smaller.

    Example:
        >>> ImageSize()
        ImageSize(shortest_side=800, longest_side=1333)
    """

    shortest_side: int = 800
    longest_side: int = 1333


def resize_image(image: Tensor, height: int, width: int, bytes_on_cpu: bool = RESIZES_BYTES) -> Tensor:
    """Resizes an image, as torchvision's `transforms.v2` do, and so the data set's transforms.

    A resized `uint8` image is rounded to whole levels. This changes scores by up to 1e-3, so the type of an
    image matters when two results are compared.

    Args:
        image: `[3, H, W]` of any type.
        height: The wanted height in pixels.
        width: The wanted width in pixels.
        bytes_on_cpu: Whether `uint8` images on a CPU are resized as they are, and not as floats.

    Returns:
        `[3, height, width]` of the same type.
    """
    if image.shape[1] == height and image.shape[2] == width:
        return image
    is_real = image.dtype == torch.float32 or image.dtype == torch.float64
    as_it_is = is_real or (image.dtype == torch.uint8 and image.device.type == "cpu" and bytes_on_cpu)
    # With the strides of a batch of one, a photo whose channels are last stays so and is not copied.
    batch = image.as_strided([1] + list(image.shape), [image.numel()] + list(image.stride()))  # noqa: RUF005
    batch = batch if as_it_is else batch.float()
    size = [height, width]
    resized = F.interpolate(batch, size, mode="bilinear", align_corners=False, antialias=True)[0]
    if not as_it_is and not image.is_floating_point():
        resized = resized.round()
    return resized.to(image.dtype)


def as_levels(image: Tensor) -> Tensor:
    """Converts an image to uint8 if it has whole levels of 0..255, as image files have.

    Args:
        image: `[3, H, W]` of any type. Floating pixels are in 0..1.

    Returns:
        `[3, H, W]`, `uint8` 0..255. If there are other values, floating 0..1.
    """
    if image.dtype == torch.uint8 or image.requires_grad:
        return image
    levels = image * 255 if image.is_floating_point() else image.float()
    whole = levels.round()
    if bool(((levels - whole).abs() < 1e-3).all() & (whole >= 0).all() & (whole <= 255).all()):
        return whole.to(torch.uint8)
    return image if image.is_floating_point() else levels / 255
