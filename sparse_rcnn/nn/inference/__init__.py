"""For deployment: folding, one module from images to detections, and torchvision's interface."""

from sparse_rcnn.nn.inference.dynamic_sizes import compile_detector
from sparse_rcnn.nn.inference.end_to_end import EndToEndDetector
from sparse_rcnn.nn.inference.first_stage import fold_first_stage
from sparse_rcnn.nn.inference.image_list import ImageListDetector
from sparse_rcnn.nn.inference.norm_folding import fold_norms

__all__ = [
    "EndToEndDetector",
    "ImageListDetector",
    "compile_detector",
    "fold_first_stage",
    "fold_norms",
]
