"""Image files: decodes them to RGB, and checks their headers before training starts."""

import os
import re
import stat
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import ExifTags, Image, ImageFile, ImageOps, UnidentifiedImageError
from torch import Tensor

__all__ = [
    "MAX_PIXELS",
    "MOST_NAMED",
    "ExifOrientation",
    "UnreadableImageError",
    "check_image_files",
    "check_size",
    "image_pixels",
    "read_image",
    "read_image_size",
]

MAX_PIXELS = 89_478_485  # Pillow warns above it. As RGB, it is 268 MB, even if the file has 100 kB.
MOST_NAMED = 5  # a message names at most so many files
ExifOrientation = Literal["apply", "ignore"]

_BOMBS = (Image.DecompressionBombError, Image.DecompressionBombWarning)
_VECTOR_FORMATS = ("EPS", "WMF")  # Pillow runs another program to draw them
# Pillow's names for 16 bits per channel. It takes the upper 8 bits of these. It scales other depths.
_UPPER_BYTES = re.compile(r";16[BLN]|SGI16")
_UNUSED_BITS = 64  # below 64 of 256: two of 16 bits are never used, and the picture is four times too dark
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
    file has several frames or pages, the first is read. If a channel has 16 bits, the upper 8 are read.

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
            `max_pixels`, or its scale is unknown. The scale is unknown for grey values of more than 8 bits,
            and for 16 bits per channel of which two or more are never used.
        ValueError: If `exif_orientation` is neither "apply" nor "ignore".

    Example:
        >>> read_image("photo.jpg").shape
        torch.Size([3, 480, 640])
    """
    _check_orientation(exif_orientation)
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
    _check_orientation(exif_orientation)
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
    _check_orientation(exif_orientation)
    size, orientation = _read_header(path, max_pixels)
    return size[::-1] if exif_orientation == "apply" and orientation >= 5 else size


def check_image_files(
    paths: Sequence[str | Path],
    sizes: Sequence[tuple[int, int]],
    *,
    decode: bool = False,
    num_threads: int = 8,
    exif_orientation: ExifOrientation = "apply",
    max_pixels: int = MAX_PIXELS,
) -> None:
    """Opens all images and compares their sizes with the annotated sizes.

    Args:
        paths: Image files.
        sizes: The annotated (height, width) of each in pixels.
        decode: Decode whole images, not only headers. This is slow, but also finds truncated files.
        num_threads: The number of files that are opened at the same time.
        exif_orientation: As for `read_image`.
        max_pixels: As for `read_image`.

    Raises:
        UnreadableImageError: If files cannot be read or have a wrong size. The message names the first of
            them and their number.
        ValueError: If `exif_orientation` is neither "apply" nor "ignore".

    Warns:
        UserWarning: If EXIF turns images without changing their size (by 180°, mirrored, or square). It is
            not known whether their boxes were drawn on the upright image.
    """
    check = partial(_check_file, decode=decode, exif_orientation=exif_orientation, max_pixels=max_pixels)
    with ThreadPoolExecutor(num_threads) as threads:
        found = list(threads.map(check, paths, sizes))
    turned = [path for path, (_, turned) in zip(paths, found, strict=True) if turned]
    if turned and exif_orientation == "apply":
        warnings.warn(
            f"EXIF turns {len(turned)} image(s) without changing their size, such as {turned[0]}: their "
            "boxes are used for the upright image; if they were drawn on the stored pixels, give "
            "exif_orientation='ignore'",
            stacklevel=2,
        )
    problems = [problem for problem, _ in found if problem]
    if problems:
        more = f"; and {len(problems) - MOST_NAMED} more" if len(problems) > MOST_NAMED else ""
        named = "; ".join(problems[:MOST_NAMED])
        raise UnreadableImageError(f"{len(problems)} unusable image(s): {named}{more}")


def check_size(path: str | Path, found: tuple[int, int], annotated: tuple[int, int]) -> None:
    """Raises UnreadableImageError if the two sizes (height, width) differ. The message names the file."""
    if found != annotated:
        raise UnreadableImageError(
            f"{path}: the image is {found[0]} x {found[1]} (height x width) "
            f"but its annotation says {annotated[0]} x {annotated[1]}"
        )


def _check_file(
    path: str | Path,
    annotated: tuple[int, int],
    *,
    decode: bool,
    exif_orientation: ExifOrientation,
    max_pixels: int,
) -> tuple[str, bool]:
    """The problem with a file, or an empty string; and whether EXIF turns it without changing its size."""
    _check_orientation(exif_orientation)
    try:
        stored, orientation = _read_header(path, max_pixels)
        size = stored[::-1] if exif_orientation == "apply" and orientation >= 5 else stored
        if decode:
            _, *size_found = read_image(path, exif_orientation=exif_orientation, max_pixels=max_pixels).shape
            size = (size_found[0], size_found[1])
        check_size(path, size, annotated)
    except UnreadableImageError as error:
        return str(error), False
    return "", orientation in (2, 3, 4) or (orientation >= 5 and stored[0] == stored[1])


def _check_orientation(exif_orientation: str) -> None:
    if exif_orientation not in ("apply", "ignore"):
        raise ValueError(f"exif_orientation must be 'apply' or 'ignore', got {exif_orientation!r}")


def _rgb_pixels(source: Image.Image, exif_orientation: ExifOrientation) -> Tensor:
    upper_bytes = _UPPER_BYTES.search(repr(getattr(source, "tile", ""))) is not None
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
    pixels = np.asarray(image if image.mode == "RGB" else image.convert("RGB"))  # [H, W, 3], read-only
    if upper_bytes and pixels.max() < _UNUSED_BITS:
        raise ValueError(
            "the file has 16 bits per channel, but its values use 14 or less, so the image would be "
            "nearly black; scale them to 8 bits first"
        )
    # Transposed by NumPy, which copies in this thread: torch would wake a pool of them in every worker.
    return torch.from_numpy(pixels.transpose(2, 0, 1).copy())  # [3, H, W]


def _check_raster(image: Image.Image, max_pixels: int) -> None:
    if image.format in _VECTOR_FORMATS:
        raise ValueError(f"{image.format} is a vector format, not a raster image; convert it to PNG first")
    if image.width * image.height > max_pixels:
        raise ValueError(f"it has {image.width} x {image.height} pixels, more than max_pixels={max_pixels}")
    if image.mode[0] in "IF":
        raise ValueError(f"mode {image.mode} has more than 8 bits a channel; convert it to 8-bit first")


def _read_header(path: str | Path, max_pixels: int) -> tuple[tuple[int, int], int]:
    """(height, width) of the stored pixels, and the EXIF orientation, 1 to 8."""
    with _opened(path, max_pixels) as image:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
        width, height = image.size
        tags = getattr(image, "tag_v2", None)  # of TIFF files: Pillow has already turned their size
        if tags is not None:
            width, height = tags[ExifTags.Base.ImageWidth], tags[ExifTags.Base.ImageLength]
        return (int(height), int(width)), orientation if orientation in range(1, 9) else 1


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
