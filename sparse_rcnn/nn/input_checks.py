"""Checks of a detector's images and image sizes. They read values, so they run outside of graphs only."""

import math

import torch
from torch import Tensor

from sparse_rcnn.ops.argument_checks import readable

__all__ = ["BRIGHTEST", "DARKEST", "check_has_values", "check_image_sizes", "check_range"]

# Allowed values of floating images, where 0 is black and 1 is white. Resizing and noise can exceed 0..1.
DARKEST, BRIGHTEST = -0.5, 10.0


def check_has_values(buffer: Tensor, images: Tensor) -> None:
    """Raises ValueError if the model of a buffer is on the meta device, and the images are not."""
    if buffer.is_meta and not images.is_meta:
        raise ValueError(
            "the model is on the meta device and has no values: call model.to_empty(device=...) and "
            "model.load_state_dict(...), or model.load_state_dict(..., assign=True)"
        )


def check_image_sizes(image_sizes: Tensor, height: int, width: int) -> None:
    """Raises ValueError for the first size that is not positive or exceeds the batch.

    Args:
        image_sizes: `[B, 2]` (height, width). On a GPU and in a graph, they are not read.
        height: Height of the batch in pixels.
        width: Width of the batch in pixels.
    """
    if not readable(image_sizes):
        return
    fits = (image_sizes[:, 0] <= height) & (image_sizes[:, 1] <= width) & (image_sizes >= 1).all(dim=1)
    if not fits.all():
        index = int((~fits).nonzero()[0, 0])
        raise ValueError(
            f"image_sizes[{index}] is {image_sizes[index].tolist()}, "
            f"but must be at least 1 and at most the padded batch's {[height, width]}"
        )


def check_range(images: Tensor, image_sizes: Tensor, training: bool) -> None:
    """Raises ValueError if images are too bright, already normalised or not finite.

    For the model, such images are nearly white or black. It would find little, without an error.

    Args:
        images: `[B, 3, H, W]`. On a GPU and in a graph, they are not read.
        image_sizes: `[B, 2]` (height, width). Padding may have any values.
        training: Let NaN pass. Then the loss is NaN, and a trainer skips the step and names the images.
    """
    if images.dtype == torch.uint8 or not readable(images, image_sizes):
        return
    if images.shape[2] * images.shape[3] == 0:
        raise ValueError(f"images must have at least one pixel, got {images.shape}")
    if images.shape[0] == 0:
        return
    floating = images.is_floating_point()
    darkest, brightest = (DARKEST, BRIGHTEST) if floating else (0, 255)
    if _within(images, darkest, brightest):
        return
    if training and bool(images.isnan().any()):
        return
    for index, (height, width) in enumerate(image_sizes.tolist()):
        inside = images[index, :, : int(height), : int(width)]  # padding may hold anything
        if not _within(inside, darkest, brightest):
            low, high = inside.min().item(), inside.max().item()
            looks = "0..255: divide by 255, or give uint8" if floating else "more than 8 bits"
            if not math.isfinite(low) or not math.isfinite(high):
                looks = "no image: it is not finite"
            elif low < darkest and high <= brightest:
                looks = "already normalised: the model does that itself"
            kind = "floating point must be 0..1" if floating else "integers must be 0..255"
            raise ValueError(
                f"images of {kind}, but images[{index}] looks like {looks} (it holds {low:g}..{high:g})"
            )


def _within(images: Tensor, low: float, high: float) -> bool:
    lowest, highest = images.aminmax()
    return bool(lowest >= low) and bool(highest <= high)  # NaN is not
