"""Image files: decoding to RGB, and checking their headers before training starts."""

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
    "read_image",
    "read_image_size",
]

MAX_PIXELS = 89_478_485  # where Pillow begins to warn: 268 MB as RGB, from a file that may have 100 kB
MOST_NAMED = 5  # a message that lists 100,000 files helps nobody
ExifOrientation = Literal["apply", "ignore"]

_BOMBS = (Image.DecompressionBombError, Image.DecompressionBombWarning)
_VECTOR_FORMATS = ("EPS", "WMF")  # Pillow gives them to another program, which draws them
# How Pillow calls 16 bits a channel of which it takes the upper 8; other depths it scales.
_UPPER_BYTES = re.compile(r";16[BLN]|SGI16")
_UNUSED_BITS = 64  # of 256: 14 bits of 16, and the picture is four times too dark
_OPPOSITE = {6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}
_ITSELF = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    7: Image.Transpose.TRANSVERSE,
}


class UnreadableImageError(ValueError):
    """The fault lies with an image file, not with its annotations or the program."""


def read_image(
    path: str | Path, *, exif_orientation: ExifOrientation = "apply", max_pixels: int = MAX_PIXELS
) -> Tensor:
    """Decodes an image file to RGB.

    Grey, palette and CMYK images become RGB. Transparency is left out: a pixel keeps the colour that is
    stored under it. Of several frames or pages the first is read. Of 16 bits a channel the upper 8 are taken.

    Args:
        path: A file in any raster format that Pillow reads.
        exif_orientation: "apply" turns the image upright, as its EXIF orientation says. "ignore" leaves the
            pixels as they are stored, for boxes that were drawn on these.
        max_pixels: The most pixels to decode. A number above Pillow's own limit raises that one, too
            (`PIL.Image.MAX_IMAGE_PIXELS`).

    Returns:
        [3, H, W] uint8, RGB.

    Raises:
        UnreadableImageError: If the path is no regular file, the file cannot be decoded, it has more than
            `max_pixels`, or its depth cannot be told: grey values of more than 8 bits, and 16 bits a
            channel of which two or more are never used. Such pixels have no certain scale.
        ValueError: If `exif_orientation` is neither "apply" nor "ignore".

    Example:
        >>> read_image("photo.jpg").shape
        torch.Size([3, 480, 640])
    """
    _check_orientation(exif_orientation)
    with _opened(path, max_pixels) as file:
        upper_bytes = _UPPER_BYTES.search(repr(file.tile)) is not None
        orientation = file.getexif().get(ExifTags.Base.Orientation, 1)
        file.load()
        image: Image.Image = file
        if exif_orientation == "apply":
            ImageOps.exif_transpose(image, in_place=True)
        # Pillow turns TIFF by itself, and forgets that it did.
        elif image.getexif().get(ExifTags.Base.Orientation, 1) != orientation:
            image = image.transpose({**_ITSELF, **_OPPOSITE}[orientation])
        if image.mode == "P" and isinstance(image.info.get("transparency"), bytes):
            image = image.convert("RGBA")  # the colours are the same, and Pillow does not warn
        pixels = np.asarray(image if image.mode == "RGB" else image.convert("RGB"))  # [H, W, 3], read-only
        if upper_bytes and pixels.max() < _UNUSED_BITS:
            raise ValueError(
                "it announces 16 bits a channel, but its values need 14 or less, and would read as (nearly) "
                "black; scale them to 8 bits first"
            )
    # Transposed by NumPy, which copies in this thread: torch would wake a pool of them in every worker.
    return torch.from_numpy(pixels.transpose(2, 0, 1).copy())  # [3, H, W]


def read_image_size(
    path: str | Path, *, exif_orientation: ExifOrientation = "apply", max_pixels: int = MAX_PIXELS
) -> tuple[int, int]:
    """Reads (height, width) in pixels from an image file's header, without decoding it.

    Args:
        path: As for `read_image`.
        exif_orientation: "apply": the size of the upright image. "ignore": that of the stored pixels.
        max_pixels: As for `read_image`.

    Returns:
        (height, width), as `read_image` gives them.

    Raises:
        UnreadableImageError: As `read_image`, for what the header tells.
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
    """Opens all images and compares their sizes with the annotated ones.

    Args:
        paths: Image files.
        sizes: The annotated (height, width) of each in pixels.
        decode: Decode whole images instead of headers: slow, but it finds truncated files, too.
        num_threads: Files opened at a time.
        exif_orientation: As for `read_image`.
        max_pixels: As for `read_image`.

    Raises:
        UnreadableImageError: Naming the first unreadable or wrongly sized files and how many there are.
        ValueError: If `exif_orientation` is neither "apply" nor "ignore".

    Warns:
        UserWarning: If EXIF turns images in a way that leaves their size as it is (by 180°, mirrored, or
            square). Only the annotator knows whether their boxes are of the upright image.
    """
    check = partial(_check_file, decode=decode, exif_orientation=exif_orientation, max_pixels=max_pixels)
    with ThreadPoolExecutor(num_threads) as threads:
        found = list(threads.map(check, paths, sizes))
    turned = [path for path, (_, turned) in zip(paths, found, strict=True) if turned]
    if turned and exif_orientation == "apply":
        warnings.warn(
            f"{len(turned)} image(s) are turned by EXIF in a way that their size does not tell, such as "
            f"{turned[0]}: their boxes are taken to be of the upright image; exif_orientation='ignore' takes "
            "them to be of the pixels as stored",
            stacklevel=2,
        )
    problems = [problem for problem, _ in found if problem]
    if problems:
        more = f"; and {len(problems) - MOST_NAMED} more" if len(problems) > MOST_NAMED else ""
        named = "; ".join(problems[:MOST_NAMED])
        raise UnreadableImageError(f"{len(problems)} unusable image(s): {named}{more}")


def check_size(path: str | Path, found: tuple[int, int], annotated: tuple[int, int]) -> None:
    """Raises UnreadableImageError naming the file and both (height, width) if they differ."""
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
    """What is wrong with a file, or an empty string; and whether EXIF turns it with no other size."""
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


def _read_header(path: str | Path, max_pixels: int) -> tuple[tuple[int, int], int]:
    """(height, width) of the stored pixels, and the EXIF orientation, 1 to 8."""
    with _opened(path, max_pixels) as image:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
        width, height = image.size
        tags = getattr(image, "tag_v2", None)  # of TIFF, whose size Pillow has turned already
        if tags is not None:
            width, height = tags[ExifTags.Base.ImageWidth], tags[ExifTags.Base.ImageLength]
        return (int(height), int(width)), orientation if orientation in range(1, 9) else 1


@contextmanager
def _opened(path: str | Path, max_pixels: int) -> Iterator[ImageFile.ImageFile]:
    """An image file whose header has been read and checked; what goes wrong inside names the file."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # opening a FIFO would wait for ever
            raise ValueError("it is not a regular file")
        if Image.MAX_IMAGE_PIXELS is not None and max_pixels > Image.MAX_IMAGE_PIXELS:
            Image.MAX_IMAGE_PIXELS = max_pixels
        # A stream and not the path, which Pillow would map into memory: a TIFF that EXIF turns, in the size
        # that it is turned to, and what comes is no picture.
        with open(path, "rb") as stream, Image.open(stream) as image:
            if image.format in _VECTOR_FORMATS:
                raise ValueError(f"{image.format} is a drawing and no raster image; convert it to PNG first")
            if image.width * image.height > max_pixels:
                raise ValueError(
                    f"it has {image.width} x {image.height} pixels, more than max_pixels={max_pixels}"
                )
            if image.mode[0] in "IF":
                raise ValueError(
                    f"mode {image.mode} has more than 8 bits a channel; convert it to 8-bit first"
                )
            yield image
    except Exception as error:  # the decoders fail in any way where a file is damaged
        reason = str(error) or type(error).__name__
        if isinstance(error, UnidentifiedImageError):  # which names the stream
            reason = "cannot identify image file"
        if isinstance(error, _BOMBS):  # Pillow's own limit, which does not name ours
            reason = f"it has more pixels than max_pixels={max_pixels}"
        raise UnreadableImageError(f"{path}: cannot be read as an image: {reason}") from error
