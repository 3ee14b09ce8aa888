"""Readers of annotation formats (COCO, VOC, YOLO, CrowdHuman, CVAT), and the one that recognises them."""

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

__all__ = [
    "COCO_CATEGORY_IDS",
    "COCO_CLASS_NAMES",
    "CocoDetection",
    "DatasetRemark",
    "DetectionDataset",
    "VocDetection",
    "crowded_images",
    "dataset_remarks",
    "describe_dataset",
    "find_coco",
    "list_splits",
    "load_dataset",
    "write_dataset",
    "write_split",
]
