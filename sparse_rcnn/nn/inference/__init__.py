"""For deployment: folding, casting, one module from images to detections, and torchvision's interface."""

from sparse_rcnn.nn.inference.dynamic_sizes import compile_detector
from sparse_rcnn.nn.inference.end_to_end import EndToEndDetector
from sparse_rcnn.nn.inference.first_stage import fold_first_stage
from sparse_rcnn.nn.inference.image_list import ImageListDetector
from sparse_rcnn.nn.inference.norm_folding import fold_norms
from sparse_rcnn.nn.inference.weight_casting import cast_weights

__all__ = [
    "EndToEndDetector",
    "ImageListDetector",
    "cast_weights",
    "compile_detector",
    "fold_first_stage",
    "fold_norms",
]
