"""A detector in two lines: from any file to what it finds in photos of any form."""

from sparse_rcnn.inference.batch import Detect, batch_of, detect_batch
from sparse_rcnn.inference.compiling import compile_for_inference
from sparse_rcnn.inference.detected import Detected, Found
from sparse_rcnn.inference.detector import Detector
from sparse_rcnn.inference.detector_file import CheckpointRemark, choose_device, load_detector
from sparse_rcnn.inference.drawing import draw_boxes
from sparse_rcnn.inference.exported_file import file_format
from sparse_rcnn.inference.finite import NotFiniteError, refuse_not_finite
from sparse_rcnn.inference.photos import find_images

__all__ = [
    "CheckpointRemark",
    "Detect",
    "Detected",
    "Detector",
    "Found",
    "NotFiniteError",
    "batch_of",
    "choose_device",
    "compile_for_inference",
    "detect_batch",
    "draw_boxes",
    "file_format",
    "find_images",
    "load_detector",
    "refuse_not_finite",
]
