"""Checkpoints of every layout: ours, detectron2's (the authors') and mmdetection's."""

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

__all__ = [
    "Checkpoint",
    "build_from_checkpoint",
    "checkpoint_class_names",
    "from_detectron2",
    "from_mmdetection",
    "infer_config",
    "load_checkpoint",
    "load_weights",
    "recognize_layout",
    "save_checkpoint",
    "to_detectron2",
    "to_mmdetection",
]
