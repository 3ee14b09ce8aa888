"""A photo, its pixels in memory or in a file that is read again."""

from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from sparse_rcnn.data.image_check import check_size
from sparse_rcnn.data.image_file import MAX_PIXELS, ExifOrientation, read_image

__all__ = ["DEFAULT", "Photo", "ReadOptions"]


class ReadOptions(NamedTuple):
    """How photos are read."""

    bgr: bool = False  # arrays and tensors, as OpenCV reads them
    exif_orientation: ExifOrientation = "apply"
    max_pixels: int = MAX_PIXELS

    def read(self, path: Path) -> Tensor:
        """A photo's file, [3, H, W] uint8.

        Raises:
            UnreadableImageError: As ``read_image``.
        """
        return read_image(path, exif_orientation=self.exif_orientation, max_pixels=self.max_pixels)


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
            image = self.options.read(self.path)
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
