"""Checks image files before training starts: they can be read, and have the annotated sizes."""

import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from sparse_rcnn.data.image_file import (
    MAX_PIXELS,
    ExifOrientation,
    UnreadableImageError,
    check_orientation,
    read_header,
    read_image,
)

__all__ = ["MOST_NAMED", "check_image_files", "check_size"]

MOST_NAMED = 5  # a message names at most so many files


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
    check_orientation(exif_orientation)
    try:
        stored, orientation = read_header(path, max_pixels)
        size = stored[::-1] if exif_orientation == "apply" and orientation >= 5 else stored
        if decode:
            _, *size_found = read_image(path, exif_orientation=exif_orientation, max_pixels=max_pixels).shape
            size = (size_found[0], size_found[1])
        check_size(path, size, annotated)
    except UnreadableImageError as error:
        return str(error), False
    return "", orientation in (2, 3, 4) or (orientation >= 5 and stored[0] == stored[1])
