"""Readers of annotation formats: COCO's JSON and Pascal VOC's XML."""

from sparse_rcnn.data.formats.coco import CocoDetection, find_coco
from sparse_rcnn.data.formats.coco_classes import COCO_CATEGORY_IDS, COCO_CLASS_NAMES
from sparse_rcnn.data.formats.detection_dataset import DetectionDataset
from sparse_rcnn.data.formats.voc import VocDetection

__all__ = [
    "COCO_CATEGORY_IDS",
    "COCO_CLASS_NAMES",
    "CocoDetection",
    "DetectionDataset",
    "VocDetection",
    "find_coco",
]
