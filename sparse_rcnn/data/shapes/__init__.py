"""The built-in data set of drawn shapes."""

from sparse_rcnn.data.shapes.dataset import ShapesDataset

__all__ = [
    "ShapesDataset",
]
