"""Reads photos from files, folders, URLs, arrays, tensors, videos, cameras, and lists of these."""

import glob
import os
from collections.abc import Iterable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from sparse_rcnn.data.image_file import UnreadableImageError, image_pixels
from sparse_rcnn.inference.download import check_scheme, download_image, is_url
from sparse_rcnn.inference.photo import Photo, ReadOptions
from sparse_rcnn.inference.photo_in_memory import from_memory, photo_from
from sparse_rcnn.inference.video import VIDEO_SUFFIXES, camera_frames, video_frames

__all__ = [
    "ACCEPTED",
    "IMAGE_SUFFIXES",
    "find_images",
    "is_single",
    "is_stream",
    "photos_of",
]

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".jfif", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff"}
ACCEPTED = (
    "a path, URL, glob or folder, a PIL image, an array [H, W, 3] uint8, a tensor [3, H, W], the number of a "
    "camera, or a list or iterator of these"
)


def is_single(source: Any) -> bool:
    """Whether a source is a single photo, and neither several nor a stream."""
    if isinstance(source, (Image.Image, np.ndarray)):
        return True
    if isinstance(source, Tensor):
        return source.dim() == 3
    if isinstance(source, (str, Path)):
        return is_url(source) or (_is_one_file(source) and not _is_video(source))
    return False


def is_stream(source: Any) -> bool:
    """Whether a source is a video, a camera or an iterator: it may be too long for memory, or endless."""
    if isinstance(source, (str, Path)):
        return not is_url(source) and _is_one_file(source) and _is_video(source)
    return (isinstance(source, Iterator) and not hasattr(source, "read")) or _is_camera(source)


def photos_of(source: Any, options: ReadOptions) -> Iterator[Photo | UnreadableImageError]:
    """The photos of a source, one after the other. Each is read when it is asked for.

    Args:
        source: One of the forms in `ACCEPTED`.
        options: How photos are read.

    Yields:
        A photo, or the error if it cannot be read.

    Raises:
        ValueError: If the source has another form.
    """
    yield from _photos(source, options, "image")


def find_images(pattern: str | Path) -> list[Path]:
    """Finds images by the name of a file or a folder, or by a glob.

    Args:
        pattern: A file, a folder, or a glob such as "photos/**/*.jpg".

    Returns:
        The paths of the images, sorted.

    Raises:
        UnreadableImageError: If there is none.

    Example:
        >>> [path.name for path in find_images("*.jpg")]
        ['photo.jpg']
    """
    # os.path returns False if a name is too long. Path raises an error.
    if os.path.isdir(pattern):
        paths = Path(pattern).iterdir()
        # Hidden files are left out, as by a glob: some systems put one beside each photo.
        visible = (path for path in paths if path.is_file() and not path.name.startswith("."))
        found = sorted(path for path in visible if path.suffix.lower() in IMAGE_SUFFIXES)
    elif os.path.exists(pattern):
        found = [Path(pattern)]
    else:
        found = sorted(Path(p) for p in glob.glob(str(pattern), recursive=True) if os.path.isfile(p))
    if not found:
        words = "no image there: no file or folder has this name"
        if os.path.isdir(pattern):
            words = f"no image there; of folders in it, give '{Path(pattern) / '**' / '*.jpg'}'"
        raise UnreadableImageError(f"{pattern}: {words}")
    return found


def _photos(source: Any, options: ReadOptions, name: str) -> Iterator[Photo | UnreadableImageError]:
    if isinstance(source, (str, Path)):
        yield from _from_name(source, options)
    elif isinstance(source, (Image.Image, np.ndarray)) or (isinstance(source, Tensor) and source.dim() == 3):
        yield from_memory(source, options, name)
    elif _is_camera(source):
        yield from _from_frames(camera_frames(int(source)), f"camera {source}")
    elif isinstance(source, bytes) or hasattr(source, "read"):
        raise ValueError(f"{name} is a file's content: give PIL.Image.open(file), of bytes io.BytesIO(bytes)")
    elif isinstance(source, Iterable) and not isinstance(source, (dict, set, Tensor)):
        for number, part in enumerate(source):
            yield from _photos(part, options, f"{name} {number}")
    elif isinstance(source, Tensor) and source.dim() == 4:
        for number, part in enumerate(source):
            yield from_memory(part, options, f"{name} {number}")
    else:
        shape = f" of shape {tuple(source.shape)}" if isinstance(source, Tensor) else ""
        raise ValueError(f"{name} must be {ACCEPTED}; got {type(source).__name__}{shape}")


def _from_name(name: str | Path, options: ReadOptions) -> Iterator[Photo | UnreadableImageError]:
    if is_url(name):
        try:
            check_scheme(str(name))
        except ValueError as error:
            yield UnreadableImageError(str(error))
            return
        try:
            with Image.open(download_image(str(name))) as image:
                pixels = image_pixels(image, options.exif_orientation, options.max_pixels)
        except Exception as error:  # decoders raise errors of all kinds
            yield UnreadableImageError(f"{name}: cannot be read as an image: {error}")
            return
        yield photo_from(str(name), pixels)
        return
    try:
        paths = find_images(name)
    except UnreadableImageError as error:
        yield error
        return
    for path in paths:
        if _is_video(path):
            yield from _from_frames(video_frames(path), str(path))
            continue
        try:
            pixels = options.read(path)
        except UnreadableImageError as error:
            yield error
            continue
        yield photo_from(str(path), pixels, path, options)


def _from_frames(frames: Iterator[Tensor], source: str) -> Iterator[Photo | UnreadableImageError]:
    numbers = count()
    try:
        for frame in frames:
            yield photo_from(f"{source}, frame {next(numbers)}", frame)
    except ValueError as error:
        yield UnreadableImageError(str(error))


def _is_one_file(name: str | Path) -> bool:
    """Whether it is the name of a file, and neither of a folder nor a glob. The file may be missing."""
    if os.path.exists(name):
        return os.path.isfile(name)
    suffix = os.path.splitext(name)[1].lower()
    return suffix in IMAGE_SUFFIXES | VIDEO_SUFFIXES and not glob.has_magic(str(name))


def _is_camera(source: Any) -> bool:
    return isinstance(source, (int, np.integer)) and not isinstance(source, bool)


def _is_video(path: str | Path) -> bool:
    return os.path.splitext(path)[1].lower() in VIDEO_SUFFIXES
