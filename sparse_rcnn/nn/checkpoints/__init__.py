"""Checkpoints of every layout: ours, detectron2's (the authors') and mmdetection's."""

from sparse_rcnn.nn.checkpoints.loading import build_from_checkpoint, checkpoint_class_names, load_weights
from sparse_rcnn.nn.checkpoints.published import (
    from_detectron2,
    from_mmdetection,
    infer_config,
    recognize_layout,
    to_detectron2,
    to_mmdetection,
)

__all__ = [
    "build_from_checkpoint",
    "checkpoint_class_names",
    "from_detectron2",
    "from_mmdetection",
    "infer_config",
    "load_weights",
    "recognize_layout",
    "to_detectron2",
    "to_mmdetection",
]
