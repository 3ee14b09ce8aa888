"""From samples to batches: augmentation, sampling and padding."""

from typing import TYPE_CHECKING, Any

from sparse_rcnn.data.loading.collate import Batch, Targets, collate
from sparse_rcnn.data.loading.sampler import Draw, TrainingSampler
from sparse_rcnn.data.loading.seeded import SeededDataset

if TYPE_CHECKING:
    from sparse_rcnn.data.loading.augmentation import AugmentedDataset, strong_transform
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


def __getattr__(name: str) -> Any:
    # Transforms need torchvision, which takes as long to import as PyTorch: detecting does without.
    if name in __all__:
        from sparse_rcnn.data.loading import augmentation, transforms

        return getattr(transforms, name, None) or getattr(augmentation, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
