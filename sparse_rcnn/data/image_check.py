"""Checks image files before training starts: they can be read, and have the annotated sizes."""

import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from sparse_rcnn.data.image_file import (
    MAX_PIXELS,
    ExifOrientation,
    UnreadableImageError,
    check_orientation,
    read_header,
    read_image,
)

__all__ = ["MOST_NAMED", "DatasetRemark", "check_image_files", "check_size", "read_annotated"]

MOST_NAMED = 5  # a message names at most so many files


class DatasetRemark(UserWarning):
    """A warning about something in the files of a data set that is unusual but harmless.

    Example:
        >>> import warnings
        >>> warnings.simplefilter("ignore", DatasetRemark)  # do not show them
    """


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
        DatasetRemark: If images have 16 bits per channel. If EXIF turns images without changing their size
            (by 180°, mirrored, or square). It is not known whether their boxes were drawn on the upright
            image. Also if annotated sizes are those of the stored pixels: then `read_annotated` does not turn
            these images.
    """
    check = partial(_check_file, decode=decode, exif_orientation=exif_orientation, max_pixels=max_pixels)
    with ThreadPoolExecutor(num_threads) as threads:
        found = list(threads.map(check, paths, sizes))
    deep = [path for path, file in zip(paths, found, strict=True) if file.is_deep]
    if deep:
        warnings.warn(
            f"{len(deep)} image(s), such as {deep[0]}, have 16 bits per channel: the upper 8 are read",
            DatasetRemark,
            stacklevel=2,
        )
    turned = [path for path, file in zip(paths, found, strict=True) if file.is_turned]
    if turned and exif_orientation == "apply":
        warnings.warn(
            f"EXIF turns {len(turned)} image(s) without changing their size, such as {turned[0]}: their "
            "boxes are used for the upright image; if they were drawn on the stored pixels, give "
            "exif_orientation='ignore'",
            DatasetRemark,
            stacklevel=2,
        )
    stored = [path for path, file in zip(paths, found, strict=True) if file.is_stored]
    if stored:
        warnings.warn(
            f"EXIF turns {len(stored)} image(s), such as {stored[0]}, but their annotations have the size of "
            "the stored pixels: they are not turned",
            DatasetRemark,
            stacklevel=2,
        )
    problems = [file.problem for file in found if file.problem]
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


def read_annotated(
    path: str | Path, size: tuple[int, int], exif_orientation: ExifOrientation, max_pixels: int
) -> Tensor:
    """Reads an image as its boxes were drawn: not turned upright if the annotated size is the stored one.

    Args:
        path: The image file.
        size: The annotated (height, width) in pixels.
        exif_orientation: As for `read_image`.
        max_pixels: As for `read_image`.

    Returns:
        [3, H, W] uint8 RGB of this size.

    Raises:
        UnreadableImageError: If the file cannot be read or has another size.
    """
    image = read_image(path, exif_orientation=exif_orientation, max_pixels=max_pixels)
    if exif_orientation == "apply" and (image.shape[2], image.shape[1]) == size != size[::-1]:
        image = read_image(path, exif_orientation="ignore", max_pixels=max_pixels)
    check_size(path, (image.shape[1], image.shape[2]), size)
    return image


class _Checked(NamedTuple):
    """What was found out about a file.

    Attributes:
        problem: Empty if there is none.
        is_turned: Whether EXIF turns it without changing its size.
        is_stored: Whether EXIF would change its size, and the annotated size is the one before.
        is_deep: Whether its channels have 16 bits.
    """

    problem: str
    is_turned: bool = False
    is_stored: bool = False
    is_deep: bool = False


def _check_file(
    path: str | Path,
    annotated: tuple[int, int],
    *,
    decode: bool,
    exif_orientation: ExifOrientation,
    max_pixels: int,
) -> _Checked:
    check_orientation(exif_orientation)
    try:
        stored, orientation, is_deep = read_header(path, max_pixels)
        swaps = exif_orientation == "apply" and orientation >= 5 and stored[0] != stored[1]
        is_stored = swaps and stored == annotated
        if decode:
            read_annotated(path, annotated, exif_orientation, max_pixels)
        else:
            check_size(path, stored[::-1] if swaps and not is_stored else stored, annotated)
    except UnreadableImageError as error:
        return _Checked(str(error))
    is_turned = orientation in (2, 3, 4) or (orientation >= 5 and stored[0] == stored[1])
    return _Checked("", is_turned, is_stored, is_deep)
