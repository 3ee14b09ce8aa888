"""Stateless losses: focal loss, box losses, matching cost, matcher, and the set prediction loss."""

from sparse_rcnn.loss.box_losses import paired_giou_loss, paired_l1_loss
from sparse_rcnn.loss.cost import matching_cost
from sparse_rcnn.loss.dense_loss import DenseLoss, dense_prediction_loss
from sparse_rcnn.loss.focal import sigmoid_focal_loss
from sparse_rcnn.loss.matcher import match_proposals
from sparse_rcnn.loss.set_loss import SetLoss, set_prediction_loss
from sparse_rcnn.loss.task_aligned import task_aligned_assignment
from sparse_rcnn.loss.weights import LossWeights

__all__ = [
    "DenseLoss",
    "LossWeights",
    "SetLoss",
    "dense_prediction_loss",
    "match_proposals",
    "matching_cost",
    "paired_giou_loss",
    "paired_l1_loss",
    "set_prediction_loss",
    "sigmoid_focal_loss",
    "task_aligned_assignment",
]
