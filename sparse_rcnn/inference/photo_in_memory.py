"""Photos that are in memory already: PIL images, arrays and tensors."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from einops import rearrange
from PIL import Image
from torch import Tensor

from sparse_rcnn.data.image_file import UnreadableImageError, image_pixels
from sparse_rcnn.inference.photo import DEFAULT, Photo, ReadOptions

__all__ = ["from_memory", "photo_from"]


def from_memory(image: Any, options: ReadOptions, name: str) -> Photo | UnreadableImageError:
    """The photo that a PIL image, an array or a tensor is, or the error if PIL cannot decode it.

    Args:
        image: A PIL image, an array `[H, W, 3]` uint8, or a tensor `[3, H, W]`, uint8 or floating in 0..1.
        options: How photos are read.
        name: What messages call it.

    Raises:
        ValueError: If an array or a tensor has another form.
    """
    if isinstance(image, Image.Image):
        known = getattr(image, "filename", "")
        try:
            return photo_from(
                known or name, image_pixels(image, options.exif_orientation, options.max_pixels)
            )
        except Exception as error:  # decoders raise errors of all kinds
            return UnreadableImageError(f"{known or name}: cannot be read as an image: {error}")
    if isinstance(image, np.ndarray):
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or 0 in image.shape:
            raise ValueError(
                f"{name}: an array must be [H, W, 3] uint8, got {list(image.shape)} {image.dtype}; "
                f"{_advice(image.shape, 'array', str(image.dtype))}"
            )
        tensor = torch.from_numpy(np.ascontiguousarray(rearrange(image, "h w c -> c h w")))
    else:
        tensor = image.detach()
        is_float = tensor.is_floating_point()
        if tensor.shape[0] != 3 or 0 in tensor.shape or not (is_float or tensor.dtype == torch.uint8):
            raise ValueError(
                f"{name}: a tensor must be [3, H, W], uint8 or floating, got {list(tensor.shape)} "
                f"{tensor.dtype}; {_advice(tensor.shape, 'tensor', str(tensor.dtype))}"
            )
        if is_float and not (tensor.amin() >= 0 and tensor.amax() <= 1):
            raise ValueError(
                f"{name}: floating pixels must be in 0..1 and not normalised, got "
                f"{float(tensor.amin()):.3g} to {float(tensor.amax()):.3g}"
            )
        tensor = tensor.cpu()
    return photo_from(name, tensor.flip(0) if options.bgr else tensor)


def _advice(shape: tuple[int, ...], kind: str, dtype: str) -> str:
    if kind == "array" and len(shape) == 4:
        return "of several images, give a list of them"
    if kind == "array" and "uint8" not in dtype:
        return "scale it to 0..255 and give image.astype('uint8')"
    if kind == "array" and len(shape) == 2:
        return "of a grey image, give numpy.stack([image] * 3, axis=-1)"
    if kind == "array" and shape[0] == 3:
        return "channels come last: image.transpose(1, 2, 0)"
    if kind == "array" and shape[-1] == 4:
        return "leave out its fourth channel: image[..., :3]"
    if kind == "tensor" and shape[-1] == 3:
        return "channels come first: image.permute(2, 0, 1)"
    if kind == "tensor" and shape[0] == 1:
        return "of a grey image, give image.expand(3, -1, -1)"
    return "convert it to RGB first"


def photo_from(name: str, image: Tensor, path: Path | None = None, options: ReadOptions = DEFAULT) -> Photo:
    """A photo of `[3, H, W]` pixels. Its size is theirs."""
    return Photo(name, (image.shape[1], image.shape[2]), image, path, options)
