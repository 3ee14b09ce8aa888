"""Data sets, augmentation, batches and evaluation."""

from typing import TYPE_CHECKING, Any

from sparse_rcnn.data.evaluation.analysis import Analysis, analyse
from sparse_rcnn.data.evaluation.coco_metrics import evaluate_coco, format_metrics
from sparse_rcnn.data.evaluation.coco_results import coco_results
from sparse_rcnn.data.evaluation.crowdhuman_metrics import evaluate_crowdhuman
from sparse_rcnn.data.evaluation.lvis_metrics import evaluate_lvis
from sparse_rcnn.data.formats.coco import CocoDetection, find_coco
from sparse_rcnn.data.formats.coco_classes import COCO_CATEGORY_IDS, COCO_CLASS_NAMES
from sparse_rcnn.data.formats.dataset_remarks import crowded_images, dataset_remarks
from sparse_rcnn.data.formats.description import describe_dataset
from sparse_rcnn.data.formats.detection_dataset import DetectionDataset
from sparse_rcnn.data.formats.held_out import write_split
from sparse_rcnn.data.formats.load import list_splits, load_dataset
from sparse_rcnn.data.formats.voc import VocDetection
from sparse_rcnn.data.formats.writers import write_dataset
from sparse_rcnn.data.image_check import DatasetRemark
from sparse_rcnn.data.image_file import UnreadableImageError, read_image
from sparse_rcnn.data.loading.collate import Batch, Targets, collate
from sparse_rcnn.data.loading.sampler import Draw, TrainingSampler
from sparse_rcnn.data.loading.seeded import SeededDataset
from sparse_rcnn.data.shapes.dataset import ShapesDataset
from sparse_rcnn.data.target import Target

if TYPE_CHECKING:
    from sparse_rcnn.data.loading.augmentation import AugmentedDataset, strong_transform
    from sparse_rcnn.data.loading.transforms import (
        RandomCropRange,
        ResizeShortestEdge,
        evaluation_transform,
        training_transform,
    )

__all__ = [
    "COCO_CATEGORY_IDS",
    "COCO_CLASS_NAMES",
    "Analysis",
    "AugmentedDataset",
    "Batch",
    "CocoDetection",
    "DatasetRemark",
    "DetectionDataset",
    "Draw",
    "RandomCropRange",
    "ResizeShortestEdge",
    "SeededDataset",
    "ShapesDataset",
    "Target",
    "Targets",
    "TrainingSampler",
    "UnreadableImageError",
    "VocDetection",
    "analyse",
    "coco_results",
    "collate",
    "crowded_images",
    "dataset_remarks",
    "describe_dataset",
    "evaluate_coco",
    "evaluate_crowdhuman",
    "evaluate_lvis",
    "evaluation_transform",
    "find_coco",
    "format_metrics",
    "list_splits",
    "load_dataset",
    "read_image",
    "strong_transform",
    "training_transform",
    "write_dataset",
    "write_split",
]


def __getattr__(name: str) -> Any:
    # Transforms need torchvision, which takes as long to import as PyTorch: detecting does without.
    if name in __all__:
        from sparse_rcnn.data.loading import augmentation, transforms

        return getattr(transforms, name, None) or getattr(augmentation, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
