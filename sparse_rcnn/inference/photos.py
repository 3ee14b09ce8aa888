"""Photos from whatever holds them: files, folders, URLs, arrays, tensors, videos, and lists of these."""

import glob
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from einops import rearrange
from PIL import Image
from torch import Tensor

from sparse_rcnn.data.image_file import (
    MAX_PIXELS,
    ExifOrientation,
    UnreadableImageError,
    check_size,
    image_pixels,
    read_image,
)
from sparse_rcnn.inference.download import check_scheme, download_image, is_url
from sparse_rcnn.inference.video import VIDEO_SUFFIXES, camera_frames, video_frames

__all__ = [
    "ACCEPTED",
    "DEFAULT",
    "IMAGE_SUFFIXES",
    "Photo",
    "ReadOptions",
    "find_images",
    "is_single",
    "is_stream",
    "photos_of",
]

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"}
ACCEPTED = (
    "a path, URL, glob or folder, a PIL image, an array [H, W, 3] uint8, a tensor [3, H, W], the number of a "
    "camera, or a list or iterator of these"
)


class ReadOptions(NamedTuple):
    """How photos are read."""

    bgr: bool = False  # arrays and tensors, as OpenCV reads them
    exif_orientation: ExifOrientation = "apply"
    max_pixels: int = MAX_PIXELS


DEFAULT = ReadOptions()


class Photo(NamedTuple):
    """An image, or where to read it again."""

    name: str  # a path, a URL, or "image 3" of a list
    size: tuple[int, int]  # (height, width) in pixels
    image: Tensor | None  # [3, H, W] RGB, uint8 0..255 or floating 0..1
    path: Path | None = None  # of its file
    options: ReadOptions = DEFAULT

    def pixels(self) -> Tensor:
        """The image, [3, H, W] uint8.

        Raises:
            UnreadableImageError: If its file has gone or changed.
        """
        image = self.image
        if image is None:
            assert self.path is not None  # only what has a file is forgotten
            image = _read(self.path, self.options)
            check_size(self.path, (image.shape[1], image.shape[2]), self.size)
        if image.is_floating_point():
            image = (image * 255).round().to(torch.uint8)
        return image.detach().cpu()

    def shown(self) -> Tensor:
        """The image, which has just been read."""
        assert self.image is not None
        return self.image

    def without_pixels(self) -> "Photo":
        """Without the image, if it can be read again."""
        return self if self.path is None else self._replace(image=None)


def is_single(source: Any) -> bool:
    """Whether a source is one photo by itself, and not several or a stream of them."""
    if isinstance(source, (Image.Image, np.ndarray)):
        return True
    if isinstance(source, Tensor):
        return source.dim() == 3
    if isinstance(source, (str, Path)):
        return is_url(source) or (os.path.isfile(source) and not _is_video(source))
    return False


def is_stream(source: Any) -> bool:
    """Whether a source may have no end, or more frames than memory takes: a video, a camera, an iterator."""
    if isinstance(source, (str, Path)):
        return os.path.isfile(source) and _is_video(source)
    return isinstance(source, Iterator) or _is_camera(source)


def photos_of(source: Any, options: ReadOptions) -> Iterator[Photo | UnreadableImageError]:
    """The photos of a source, one after the other, each read when it is asked for.

    Args:
        source: See ``ACCEPTED``.
        options: How they are read.

    Yields:
        Photos, and errors in the place of those that cannot be read.

    Raises:
        ValueError: If it is something else, or nothing is there.
    """
    yield from _photos(source, options, "image")


def find_images(pattern: str | Path) -> list[Path]:
    """The file of that name, the images in the folder of that name, or the files that the glob matches.

    Args:
        pattern: A file, a folder, or a glob ("photos/**/*.jpg").

    Returns:
        Paths, sorted.

    Raises:
        UnreadableImageError: If there is none.
    """
    # os.path and not Path: it answers no where a name is too long to exist.
    if os.path.isdir(pattern):
        found = sorted(p for p in Path(pattern).iterdir() if p.suffix.lower() in IMAGE_SUFFIXES)
    elif os.path.exists(pattern):
        found = [Path(pattern)]
    else:
        found = sorted(Path(p) for p in glob.glob(str(pattern), recursive=True) if os.path.isfile(p))
    if not found:
        raise UnreadableImageError(f"{pattern}: no image there")
    return found


def _photos(source: Any, options: ReadOptions, name: str) -> Iterator[Photo | UnreadableImageError]:
    if isinstance(source, (str, Path)):
        yield from _from_name(source, options)
    elif isinstance(source, (Image.Image, np.ndarray)) or (isinstance(source, Tensor) and source.dim() == 3):
        yield _in_memory(source, options, name)
    elif _is_camera(source):
        for number, frame in enumerate(camera_frames(source)):
            yield _photo(f"camera {source}, frame {number}", frame)
    elif isinstance(source, Iterable) and not isinstance(source, (bytes, dict, set, Tensor)):
        for number, part in enumerate(source):
            yield from _photos(part, options, f"{name} {number}")
    elif isinstance(source, Tensor) and source.dim() == 4:
        for number, part in enumerate(source):
            yield _in_memory(part, options, f"{name} {number}")
    else:
        shape = f" of shape {tuple(source.shape)}" if isinstance(source, Tensor) else ""
        raise ValueError(f"{name} must be {ACCEPTED}; got {type(source).__name__}{shape}")


def _from_name(name: str | Path, options: ReadOptions) -> Iterator[Photo | UnreadableImageError]:
    if is_url(name):
        check_scheme(str(name))
        try:
            with Image.open(download_image(str(name))) as image:
                pixels = image_pixels(image, options.exif_orientation, options.max_pixels)
        except Exception as error:  # decoders fail in any way
            yield UnreadableImageError(f"{name}: cannot be read as an image: {error}")
            return
        yield _photo(str(name), pixels)
        return
    try:
        paths = find_images(name)
    except UnreadableImageError as error:
        yield error
        return
    for path in paths:
        if _is_video(path):
            for number, frame in enumerate(video_frames(path)):
                yield _photo(f"{path}, frame {number}", frame)
            continue
        try:
            pixels = _read(path, options)
        except UnreadableImageError as error:
            yield error
            continue
        yield _photo(str(path), pixels, path, options)


def _in_memory(image: Any, options: ReadOptions, name: str) -> Photo:
    if isinstance(image, Image.Image):
        known = getattr(image, "filename", "")
        try:
            return _photo(known or name, image_pixels(image, options.exif_orientation, options.max_pixels))
        except (ValueError, OSError) as error:
            raise UnreadableImageError(f"{known or name}: {error}") from error
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
    return _photo(name, tensor.flip(0) if options.bgr else tensor)


def _advice(shape: tuple[int, ...], kind: str, dtype: str) -> str:
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


def _photo(name: str, image: Tensor, path: Path | None = None, options: ReadOptions = DEFAULT) -> Photo:
    return Photo(name, (image.shape[1], image.shape[2]), image, path, options)


def _read(path: Path, options: ReadOptions) -> Tensor:
    return read_image(path, exif_orientation=options.exif_orientation, max_pixels=options.max_pixels)


def _is_camera(source: Any) -> bool:
    return isinstance(source, int) and not isinstance(source, bool)


def _is_video(path: str | Path) -> bool:
    return os.path.splitext(path)[1].lower() in VIDEO_SUFFIXES
