"""Modules that own parameters, the detector that they form, and its checkpoints."""

from sparse_rcnn.nn.backbones.backbone import Backbone
from sparse_rcnn.nn.backbones.contract import PyramidBackbone
from sparse_rcnn.nn.box_head import BoxHead
from sparse_rcnn.nn.build import build_sparse_rcnn
from sparse_rcnn.nn.checkpoints.checkpoint import Checkpoint, load_checkpoint
from sparse_rcnn.nn.checkpoints.checkpoint_layout import infer_config, recognize_layout
from sparse_rcnn.nn.checkpoints.fields import checkpoint_class_names
from sparse_rcnn.nn.checkpoints.loading import build_from_checkpoint, load_weights
from sparse_rcnn.nn.checkpoints.published import (
    from_detectron2,
    from_mmdetection,
    to_detectron2,
    to_mmdetection,
)
from sparse_rcnn.nn.checkpoints.saving import save_checkpoint
from sparse_rcnn.nn.dense_proposals import DensePredictions, DenseProposals
from sparse_rcnn.nn.detector import SparseRCNN
from sparse_rcnn.nn.dynamic_interaction import DynamicInteraction
from sparse_rcnn.nn.head import Head, Predictions
from sparse_rcnn.nn.image_size import ImageSize
from sparse_rcnn.nn.inference.dynamic_sizes import compile_detector
from sparse_rcnn.nn.inference.end_to_end import EndToEndDetector
from sparse_rcnn.nn.inference.first_stage import fold_first_stage
from sparse_rcnn.nn.inference.image_list import ImageListDetector
from sparse_rcnn.nn.inference.norm_folding import fold_norms
from sparse_rcnn.nn.inference.weight_casting import cast_weights
from sparse_rcnn.nn.model_config import ModelConfig
from sparse_rcnn.nn.proposals import Proposals
from sparse_rcnn.nn.stage import Stage
from sparse_rcnn.nn.weight_file import read_checkpoint

__all__ = [
    "Backbone",
    "BoxHead",
    "Checkpoint",
    "DensePredictions",
    "DenseProposals",
    "DynamicInteraction",
    "EndToEndDetector",
    "Head",
    "ImageListDetector",
    "ImageSize",
    "ModelConfig",
    "Predictions",
    "Proposals",
    "PyramidBackbone",
    "SparseRCNN",
    "Stage",
    "build_from_checkpoint",
    "build_sparse_rcnn",
    "cast_weights",
    "checkpoint_class_names",
    "compile_detector",
    "fold_first_stage",
    "fold_norms",
    "from_detectron2",
    "from_mmdetection",
    "infer_config",
    "load_checkpoint",
    "load_weights",
    "read_checkpoint",
    "recognize_layout",
    "save_checkpoint",
    "to_detectron2",
    "to_mmdetection",
]
