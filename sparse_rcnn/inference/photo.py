"""A photo. Its pixels are in memory, or in a file that is read again."""

from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from sparse_rcnn.data.image_check import check_size
from sparse_rcnn.data.image_file import MAX_PIXELS, ExifOrientation, read_image

__all__ = ["DEFAULT", "Photo", "ReadOptions"]


class ReadOptions(NamedTuple):
    """How photos are read.

    Attributes:
        bgr: Whether arrays and tensors are BGR, as OpenCV reads them.
        exif_orientation: As for `read_image`.
        max_pixels: As for `read_image`.
    """

    bgr: bool = False
    exif_orientation: ExifOrientation = "apply"
    max_pixels: int = MAX_PIXELS

    def read(self, path: Path) -> Tensor:
        """Reads a file.

        Args:
            path: The file.

        Returns:
            [3, H, W] uint8 RGB.

        Raises:
            UnreadableImageError: If the file is no image that can be read.
        """
        return read_image(path, exif_orientation=self.exif_orientation, max_pixels=self.max_pixels)


DEFAULT = ReadOptions()


class Photo(NamedTuple):
    """An image, or the file to read it from again.

    Attributes:
        name: A path, a URL, or a place such as "image 3" of a list.
        size: (height, width) in pixels.
        image: [3, H, W] RGB, uint8 0..255 or floating 0..1. None if it is to be read again.
        path: Its file, if it has one.
        options: How the file is read.
    """

    name: str
    size: tuple[int, int]
    image: Tensor | None
    path: Path | None = None
    options: ReadOptions = DEFAULT

    def pixels(self) -> Tensor:
        """The image, [3, H, W] uint8.

        Raises:
            UnreadableImageError: If its file is missing or has changed.
        """
        image = self.image
        if image is None:
            assert self.path is not None  # without_pixels() keeps the image if there is no file
            image = self.options.read(self.path)
            check_size(self.path, (image.shape[1], image.shape[2]), self.size)
        if image.is_floating_point():
            image = (image * 255).round().to(torch.uint8)
        return image.detach().cpu()

    def shown(self) -> Tensor:
        """The image of a photo that has just been read."""
        assert self.image is not None
        return self.image

    def without_pixels(self) -> "Photo":
        """The photo without its image, if the image can be read again."""
        return self if self.path is None else self._replace(image=None)
