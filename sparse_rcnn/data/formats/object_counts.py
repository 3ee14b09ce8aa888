"""How many boxes to learn from there are in each image and of each class."""

import numpy as np

from sparse_rcnn.data.formats.detection_dataset import DetectionDataset

__all__ = ["objects_a_class", "objects_an_image"]


def objects_an_image(dataset: DetectionDataset) -> np.ndarray:
    """Boxes to learn from by image, [I] int64."""
    return np.bincount(dataset.annotations.image_indices[dataset.is_target], minlength=len(dataset))


def objects_a_class(dataset: DetectionDataset) -> np.ndarray:
    """Boxes to learn from by class, [K] int64."""
    return np.bincount(dataset.annotations.labels[dataset.is_target], minlength=len(dataset.class_names))
