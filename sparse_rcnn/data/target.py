"""The objects of one image."""

from typing import NamedTuple

from torch import Tensor

__all__ = ["Target"]


class Target(NamedTuple):
    """The objects of one image. Crowd regions are left out: only the evaluation uses them.

    Attributes:
        boxes: [M, 4] float32, xyxy in pixels of the image after the transform.
        labels: [M] int64 in 0..K-1.
        image_id: The id of the image in its data set.
        original_size: (height, width) of the image file in pixels.

    Example:
        >>> from sparse_rcnn.data import ShapesDataset
        >>> image, target = ShapesDataset("shapes", "val", num_images=2)[0]
        >>> target.boxes.shape
        torch.Size([..., 4])
    """

    boxes: Tensor
    labels: Tensor
    image_id: int
    original_size: tuple[int, int]
