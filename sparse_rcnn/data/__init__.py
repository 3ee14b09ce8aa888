"""Data sets, augmentation, batches and evaluation: from files to tensors, and from tensors to COCO AP."""

from sparse_rcnn.data.coco import CocoDetection, find_coco
from sparse_rcnn.data.coco_classes import COCO_CATEGORY_IDS, COCO_CLASS_NAMES
from sparse_rcnn.data.collate import Batch, Targets, collate
from sparse_rcnn.data.detection_dataset import DetectionDataset
from sparse_rcnn.data.evaluate import coco_results, evaluate_coco, format_metrics
from sparse_rcnn.data.image_file import UnreadableImageError, read_image
from sparse_rcnn.data.sampler import Draw, TrainingSampler
from sparse_rcnn.data.seeded import SeededDataset
from sparse_rcnn.data.shapes import ShapesDataset
from sparse_rcnn.data.target import Target
from sparse_rcnn.data.transforms import (
    RandomCropRange,
    ResizeShortestEdge,
    evaluation_transform,
    training_transform,
)
from sparse_rcnn.data.voc import VocDetection

__all__ = [
    "COCO_CATEGORY_IDS",
    "COCO_CLASS_NAMES",
    "Batch",
    "CocoDetection",
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
    "coco_results",
    "collate",
    "evaluate_coco",
    "evaluation_transform",
    "find_coco",
    "format_metrics",
    "read_image",
    "training_transform",
]
