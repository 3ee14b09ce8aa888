"""Stateless functions of tensors: boxes, IoU, deltas, RoIAlign, interaction, assignment, detections.

Sparse R-CNN itself does not use `add_positional_encoding`. An ablation of the paper does.
"""

from sparse_rcnn.ops.assignment import linear_sum_assignment
from sparse_rcnn.ops.boxes import (
    box_area,
    clip_boxes,
    cxcywh_to_xyxy,
    rescale_boxes,
    whwh,
    xyxy_to_cxcywh,
)
from sparse_rcnn.ops.deltas import apply_deltas, get_deltas
from sparse_rcnn.ops.detections import Detections, select_detections
from sparse_rcnn.ops.interaction import dynamic_interaction
from sparse_rcnn.ops.iou import paired_giou, paired_iou, pairwise_giou, pairwise_iou
from sparse_rcnn.ops.positional_encoding import add_positional_encoding
from sparse_rcnn.ops.pyramid import Pyramid, flatten_pyramid
from sparse_rcnn.ops.resize import shortest_side_resize
from sparse_rcnn.ops.roi_align import assign_levels, pyramid_roi_align

__all__ = [
    "Detections",
    "Pyramid",
    "add_positional_encoding",
    "apply_deltas",
    "assign_levels",
    "box_area",
    "clip_boxes",
    "cxcywh_to_xyxy",
    "dynamic_interaction",
    "flatten_pyramid",
    "get_deltas",
    "linear_sum_assignment",
    "paired_giou",
    "paired_iou",
    "pairwise_giou",
    "pairwise_iou",
    "pyramid_roi_align",
    "rescale_boxes",
    "select_detections",
    "shortest_side_resize",
    "whwh",
    "xyxy_to_cxcywh",
]
