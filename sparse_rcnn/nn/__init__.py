"""Small modules that own parameters, the detector built of them, and its checkpoints."""

from sparse_rcnn.nn.backbones.backbone import Backbone
from sparse_rcnn.nn.box_head import BoxHead
from sparse_rcnn.nn.build import build_sparse_rcnn
from sparse_rcnn.nn.checkpoints.loading import build_from_checkpoint, checkpoint_class_names, load_weights
from sparse_rcnn.nn.checkpoints.published import (
    from_detectron2,
    from_mmdetection,
    infer_config,
    recognize_layout,
    to_detectron2,
    to_mmdetection,
)
from sparse_rcnn.nn.detector import SparseRCNN
from sparse_rcnn.nn.dynamic_interaction import DynamicInteraction
from sparse_rcnn.nn.head import Head, Predictions
from sparse_rcnn.nn.inference.compiling import compile_detector
from sparse_rcnn.nn.inference.end_to_end import EndToEndDetector
from sparse_rcnn.nn.inference.first_stage import fold_first_stage
from sparse_rcnn.nn.inference.image_list import ImageListDetector
from sparse_rcnn.nn.inference.norm_folding import fold_norms
from sparse_rcnn.nn.proposals import Proposals
from sparse_rcnn.nn.stage import Stage
from sparse_rcnn.nn.weight_file import read_checkpoint

__all__ = [
    "Backbone",
    "BoxHead",
    "DynamicInteraction",
    "EndToEndDetector",
    "Head",
    "ImageListDetector",
    "Predictions",
    "Proposals",
    "SparseRCNN",
    "Stage",
    "build_from_checkpoint",
    "build_sparse_rcnn",
    "checkpoint_class_names",
    "compile_detector",
    "fold_first_stage",
    "fold_norms",
    "from_detectron2",
    "from_mmdetection",
    "infer_config",
    "load_weights",
    "read_checkpoint",
    "recognize_layout",
    "to_detectron2",
    "to_mmdetection",
]
