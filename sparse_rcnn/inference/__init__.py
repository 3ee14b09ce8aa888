"""A detector from any file, which finds objects in photos of any form."""

from sparse_rcnn.inference.batch import Detect, batch_of, detect_batch
from sparse_rcnn.inference.box_drawing import draw_boxes
from sparse_rcnn.inference.class_matching import category_ids_of
from sparse_rcnn.inference.compiling import compile_for_inference
from sparse_rcnn.inference.detected import Detected
from sparse_rcnn.inference.detector_file import (
    CheckpointRemark,
    choose_device,
    from_pretrained,
    load_detector,
)
from sparse_rcnn.inference.evaluating import detect_dataset
from sparse_rcnn.inference.exported_file import file_format
from sparse_rcnn.inference.finite import NotFiniteError, refuse_not_finite
from sparse_rcnn.inference.found import Found
from sparse_rcnn.inference.photo_detector import Detector
from sparse_rcnn.inference.photos import find_images

__all__ = [
    "CheckpointRemark",
    "Detect",
    "Detected",
    "Detector",
    "Found",
    "NotFiniteError",
    "batch_of",
    "category_ids_of",
    "choose_device",
    "compile_for_inference",
    "detect_batch",
    "detect_dataset",
    "draw_boxes",
    "file_format",
    "find_images",
    "from_pretrained",
    "load_detector",
    "refuse_not_finite",
]
