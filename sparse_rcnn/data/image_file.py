"""Image files: decoding to RGB, and checking their headers before training starts."""

import struct
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps
from torch import Tensor

# Everything PIL's decoders raise for broken files (SyntaxError is what its PNG and TIFF readers use).
UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, struct.error, Image.DecompressionBombError)
MOST_NAMED = 5  # a message that lists 100,000 files helps nobody


class UnreadableImageError(ValueError):
    """The fault lies with an image file, not with its annotations or the program."""


def read_image(path: str | Path) -> Tensor:
    """Decodes an image file, turned upright by its EXIF orientation.

    Args:
        path: A file in any 8-bit format that PIL reads; grey and palette images become RGB.

    Returns:
        [3, H, W] uint8, RGB.

    Raises:
        UnreadableImageError: If the file cannot be decoded, or holds more than 8 bits a channel (PIL would
            clip those to white instead of rescaling them).
    """
    try:
        with Image.open(path) as image:
            _refuse_deep(image)
            upright = ImageOps.exif_transpose(image).convert("RGB")
            pixels = np.asarray(upright)  # [H, W, 3], read-only
    except UNREADABLE as error:
        raise UnreadableImageError(f"{path}: cannot be read as an image: {error}") from error
    # Transposed by NumPy, which copies in this thread: torch would wake a pool of them in every worker.
    return torch.from_numpy(pixels.transpose(2, 0, 1).copy())  # [3, H, W]


def read_image_size(path: str | Path) -> tuple[int, int]:
    """Reads the upright (height, width) in pixels from an image file's header, without decoding it.

    Raises:
        UnreadableImageError: If the header cannot be read or announces more than 8 bits a channel.
    """
    try:
        with Image.open(path) as image:
            _refuse_deep(image)
            width, height = image.size
            turned = image.getexif().get(ExifTags.Base.Orientation, 1) in (5, 6, 7, 8)
    except UNREADABLE as error:
        raise UnreadableImageError(f"{path}: cannot be read as an image: {error}") from error
    return (width, height) if turned else (height, width)


def check_image_files(
    paths: Sequence[str | Path],
    sizes: Sequence[tuple[int, int]],
    *,
    decode: bool = False,
    num_threads: int = 8,
) -> None:
    """Opens all images and compares their sizes with the annotated ones.

    Args:
        paths: Image files.
        sizes: The annotated (height, width) of each in pixels.
        decode: Decode whole images instead of headers: slow, but it finds truncated files, too.
        num_threads: Files opened at a time.

    Raises:
        UnreadableImageError: Naming the first unreadable or wrongly sized files and how many there are.
    """
    size_of: Callable[[str | Path], tuple[int, int]] = _decoded_size if decode else read_image_size

    def problem(path: str | Path, size: tuple[int, int]) -> str | None:
        try:
            check_size(path, size_of(path), size)
        except ValueError as error:
            return str(error)
        return None

    with ThreadPoolExecutor(num_threads) as threads:
        problems = [text for text in threads.map(problem, paths, sizes) if text is not None]
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


def _decoded_size(path: str | Path) -> tuple[int, int]:
    _, height, width = read_image(path).shape
    return height, width


def _refuse_deep(image: Image.Image) -> None:
    if image.mode[0] in "IF":
        raise ValueError(f"mode {image.mode} has more than 8 bits a channel; convert it to 8-bit first")
