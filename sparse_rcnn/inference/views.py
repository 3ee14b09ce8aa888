"""Several views of a photo: overlapping tiles, or the photo in other sizes and mirrored."""

from typing import NamedTuple

import torch
from torch import Tensor

from sparse_rcnn.ops.argument_checks import whole_number

__all__ = ["SCALES", "View", "augmented", "tiles_of"]

SCALES = (0.75, 1.0, 1.25)  # factors of the detector's image size


class View(NamedTuple):
    """A part of a photo that the detector gets.

    Attributes:
        image: [3, h, w], not resized yet.
        x: Left border in pixels of the photo.
        y: Upper border in pixels of the photo.
        mirrored: Whether left and right are exchanged.
        scale: A factor of the detector's image size.
    """

    image: Tensor
    x: int = 0
    y: int = 0
    mirrored: bool = False
    scale: float = 1.0

    def to_photo(self, boxes: Tensor) -> Tensor:
        """Converts boxes to pixels of the photo.

        Args:
            boxes: [D, 4] xyxy in pixels of the view.

        Returns:
            [D, 4] xyxy in pixels of the photo.
        """
        x1, y1, x2, y2 = boxes.unbind(1)
        if self.mirrored:
            width = self.image.shape[2]
            x1, x2 = width - x2, width - x1
        return torch.stack([x1 + self.x, y1 + self.y, x2 + self.x, y2 + self.y], 1)

    def cuts(self, boxes: Tensor, size: tuple[int, int], margin: float = 2.0) -> Tensor:
        """Which boxes the border of the view may cut. The border of the photo does not count.

        Args:
            boxes: [D, 4] xyxy in pixels of the photo.
            size: (height, width) of the photo.
            margin: A box that ends less than so many pixels before the border counts as cut.

        Returns:
            [D] bool.
        """
        height, width = self.image.shape[1:]
        right, bottom = self.x + width, self.y + height
        cut = torch.zeros(len(boxes), dtype=torch.bool)
        for inner, distance in (
            (self.x > 0, boxes[:, 0] - self.x),
            (self.y > 0, boxes[:, 1] - self.y),
            (right < size[1], right - boxes[:, 2]),
            (bottom < size[0], bottom - boxes[:, 3]),
        ):
            if inner:
                cut |= distance < margin
        return cut


def tiles_of(image: Tensor, side: int, overlap: float) -> list[View]:
    """Cuts a photo into overlapping square tiles.

    Args:
        image: [3, H, W].
        side: The side of a tile in pixels.
        overlap: The overlap of neighbours, as a share of the side. An object that is smaller than the overlap
            lies whole in at least one tile.

    Returns:
        The whole photo, and then the tiles. There are none if one tile would hold the photo.

    Raises:
        ValueError: If a tile is smaller than 32 px, or the overlap is not in 0..0.9.
    """
    side = whole_number("tile", side, 32)
    if not 0 <= overlap <= 0.9:
        raise ValueError(f"overlap must be in 0..0.9, got {overlap}")
    height, width = image.shape[1:]
    views = [View(image)]
    if max(height, width) > side:
        views += [
            View(image[:, y : y + side, x : x + side], x, y)
            for y in _starts(height, side, overlap)
            for x in _starts(width, side, overlap)
        ]
    return views


def augmented(image: Tensor) -> list[View]:
    """A photo in three sizes, each as it is and mirrored.

    Args:
        image: [3, H, W].

    Returns:
        Six views.
    """
    return [
        View(image.flip(2) if mirrored else image, mirrored=mirrored, scale=scale)
        for scale in SCALES
        for mirrored in (False, True)
    ]


def _starts(length: int, side: int, overlap: float) -> list[int]:
    """Where tiles begin: evenly spaced from 0. The last tile ends where the photo ends."""
    if length <= side:
        return [0]
    step = max(1, int(side * (1 - overlap)))
    count = -(-(length - side) // step)
    return [round(i * (length - side) / count) for i in range(count + 1)]
