"""From samples to batches: augmentation, sampling and padding."""

from sparse_rcnn.data.loading.augmentation import AugmentedDataset, strong_transform
from sparse_rcnn.data.loading.collate import Batch, Targets, collate
from sparse_rcnn.data.loading.sampler import Draw, TrainingSampler
from sparse_rcnn.data.loading.seeded import SeededDataset
from sparse_rcnn.data.loading.transforms import (
    RandomCropRange,
    ResizeShortestEdge,
    evaluation_transform,
    training_transform,
)

__all__ = [
    "AugmentedDataset",
    "Batch",
    "Draw",
    "RandomCropRange",
    "ResizeShortestEdge",
    "SeededDataset",
    "Targets",
    "TrainingSampler",
    "collate",
    "evaluation_transform",
    "strong_transform",
    "training_transform",
]
