"""Image files: decodes them to RGB, and reads the sizes in their headers."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from einops import rearrange
from PIL import ExifTags, Image, ImageFile, ImageOps, UnidentifiedImageError
from torch import Tensor

from sparse_rcnn.data.bit_depth import SCALE, has_16_bits, refuse_unused_bits, upper_bits

__all__ = [
    "MAX_PIXELS",
    "ExifOrientation",
    "UnreadableImageError",
    "check_orientation",
    "image_pixels",
    "read_header",
    "read_image",
    "read_image_size",
]

MAX_PIXELS = 89_478_485  # Pillow warns above it. As RGB, it is 268 MB, even if the file has 100 kB.
ExifOrientation = Literal["apply", "ignore"]

_BOMBS = (Image.DecompressionBombError, Image.DecompressionBombWarning)
_VECTOR_FORMATS = ("EPS", "WMF")  # Pillow runs another program to draw them
_OPPOSITE = {6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}
_ITSELF = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    7: Image.Transpose.TRANSVERSE,
}


class UnreadableImageError(ValueError):
    """An image file cannot be read. Its annotations and the program are not the cause.

    Example:
        >>> try:
        ...     read_image("absent.jpg")
        ... except UnreadableImageError as error:
        ...     print("skipped")
        skipped
    """


def read_image(
    path: str | Path, *, exif_orientation: ExifOrientation = "apply", max_pixels: int = MAX_PIXELS
) -> Tensor:
    """Decodes an image file to RGB.

    Grey, palette and CMYK images become RGB. Transparency is ignored: a pixel keeps its stored colour. If a
    file has several frames or pages, the first is read. If a channel has 16 bits, the upper 8 are read, as by
    OpenCV.

    Args:
        path: A file in any raster format that Pillow reads.
        exif_orientation: "apply" turns the image upright, as its EXIF orientation says. "ignore" does not
            turn it. Use "ignore" if the boxes were drawn on the stored pixels.
        max_pixels: The largest number of pixels to decode. If it is above Pillow's limit
            (`PIL.Image.MAX_IMAGE_PIXELS`), that limit is raised, too.

    Returns:
        [3, H, W] uint8, RGB.

    Raises:
        UnreadableImageError: If the path is no regular file, the file cannot be decoded, it has more than
            `max_pixels`, or its scale is unknown. The scale is unknown for grey values of 32 bits, and for 16
            bits per channel of which two or more are never used.
        ValueError: If `exif_orientation` is neither "apply" nor "ignore".

    Example:
        >>> read_image("photo.jpg").shape
        torch.Size([3, 480, 640])
    """
    check_orientation(exif_orientation)
    with _opened(path, max_pixels) as file:
        return _rgb_pixels(file, exif_orientation)


def image_pixels(
    image: Image.Image, exif_orientation: ExifOrientation = "apply", max_pixels: int = MAX_PIXELS
) -> Tensor:
    """The pixels of an image in memory, by the same rules as those of a file.

    Args:
        image: Stays as it is, but for being loaded.
        exif_orientation: As for `read_image`.
        max_pixels: As for `read_image`.

    Returns:
        [3, H, W] uint8, RGB.

    Raises:
        ValueError: As `read_image`.
    """
    check_orientation(exif_orientation)
    _check_raster(image, max_pixels)
    return _rgb_pixels(image, exif_orientation)


def read_image_size(
    path: str | Path, *, exif_orientation: ExifOrientation = "apply", max_pixels: int = MAX_PIXELS
) -> tuple[int, int]:
    """Reads (height, width) in pixels from an image file's header, without decoding the file.

    Args:
        path: As for `read_image`.
        exif_orientation: "apply" gives the size of the upright image, "ignore" that of the stored pixels.
        max_pixels: As for `read_image`.

    Returns:
        (height, width), the same as after `read_image`.

    Raises:
        UnreadableImageError: If the header cannot be read, or has too many pixels or an unknown scale.
        ValueError: If `exif_orientation` is neither "apply" nor "ignore".

    Example:
        >>> read_image_size("photo.jpg")
        (480, 640)
    """
    check_orientation(exif_orientation)
    size, orientation, _ = read_header(path, max_pixels)
    return size[::-1] if exif_orientation == "apply" and orientation >= 5 else size


def check_orientation(exif_orientation: str) -> None:
    """Raises ValueError if the option is neither "apply" nor "ignore"."""
    if exif_orientation not in ("apply", "ignore"):
        raise ValueError(f"exif_orientation must be 'apply' or 'ignore', got {exif_orientation!r}")


def _rgb_pixels(source: Image.Image, exif_orientation: ExifOrientation) -> Tensor:
    is_deep = has_16_bits(source)
    orientation = source.getexif().get(ExifTags.Base.Orientation, 1)
    source.load()
    image = source
    if exif_orientation == "apply":
        image = ImageOps.exif_transpose(source) if orientation != 1 else source
    # Pillow turns TIFF files itself, but removes the orientation. Turn them back.
    elif image.getexif().get(ExifTags.Base.Orientation, 1) != orientation:
        image = image.transpose({**_ITSELF, **_OPPOSITE}[orientation])
    if image.mode == "P" and isinstance(image.info.get("transparency"), bytes):
        image = image.convert("RGBA")  # the colours are the same, and Pillow does not warn
    if is_deep and image.mode[0] == "I":
        image = upper_bits(image, source)
    pixels = np.asarray(image if image.mode == "RGB" else image.convert("RGB"))  # [H, W, 3], read-only
    if is_deep:
        refuse_unused_bits(pixels)
    # Channels stay last in memory, which copies and resizes in a third of the time. NumPy copies in this
    # thread: torch would wake a pool of them in every worker.
    return rearrange(torch.from_numpy(pixels.copy()), "h w c -> c h w")


def _check_raster(image: Image.Image, max_pixels: int) -> None:
    if image.format in _VECTOR_FORMATS:
        raise ValueError(f"{image.format} is a vector format, not a raster image; convert it to PNG first")
    if image.width * image.height > max_pixels:
        raise ValueError(f"it has {image.width} x {image.height} pixels, more than max_pixels={max_pixels}")
    if image.mode[0] == "F" or (image.mode[0] == "I" and not has_16_bits(image)):
        raise ValueError(f"mode {image.mode} has no certain scale; {SCALE}")


def read_header(path: str | Path, max_pixels: int) -> tuple[tuple[int, int], int, bool]:
    """(height, width) of the stored pixels, the EXIF orientation, 1 to 8, and whether it has 16 bits."""
    with _opened(path, max_pixels) as image:
        is_deep = has_16_bits(image)  # first: the EXIF data of a PNG file comes after the pixels
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
        width, height = image.size
        tags = getattr(image, "tag_v2", None)  # of TIFF files: Pillow has already turned their size
        if tags is not None:
            width, height = tags[ExifTags.Base.ImageWidth], tags[ExifTags.Base.ImageLength]
        orientation = orientation if orientation in range(1, 9) else 1
        return (int(height), int(width)), orientation, is_deep


@contextmanager
def _opened(path: str | Path, max_pixels: int) -> Iterator[ImageFile.ImageFile]:
    """Opens an image file and checks its header. All errors inside of the block name the file."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # opening a FIFO would never end
            raise ValueError("it is not a regular file")
        if Image.MAX_IMAGE_PIXELS is not None and max_pixels > Image.MAX_IMAGE_PIXELS:
            Image.MAX_IMAGE_PIXELS = max_pixels
        # Give Pillow a stream. It maps a path into memory, and then a TIFF that EXIF turns is read wrongly.
        with open(path, "rb") as stream, Image.open(stream) as image:
            _check_raster(image, max_pixels)
            yield image
    except Exception as error:  # decoders can raise any error on a damaged file
        reason = str(error) or type(error).__name__
        if isinstance(error, UnidentifiedImageError):  # its message names the stream, not the file
            reason = "cannot identify image file"
        if isinstance(error, _BOMBS):  # Pillow's message does not name max_pixels
            reason = f"it has more pixels than max_pixels={max_pixels}"
        raise UnreadableImageError(f"{path}: cannot be read as an image: {reason}") from error
