"""What is known about the objects of one image."""

from typing import NamedTuple

from torch import Tensor

__all__ = ["Target"]


class Target(NamedTuple):
    """The objects of one image, without crowd regions (those are only evaluated against).

    Attributes:
        boxes: [M, 4] float32, xyxy in pixels of the image that comes with it (so after the transform).
        labels: [M] int64, contiguous 0..K-1.
        image_id: The id of the image in its data set.
        original_size: (height, width) of the image file in pixels.
    """

    boxes: Tensor
    labels: Tensor
    image_id: int
    original_size: tuple[int, int]
