"""Optimal one-to-one matching of targets and proposals, all stages and images at once (section 3.3)."""

import torch
from torch import Tensor

from sparse_rcnn.loss.cost import matching_cost


def match_proposals(
    logits: Tensor,
    boxes: Tensor,
    target_boxes: Tensor,
    target_labels: Tensor,
    target_valid: Tensor,
    image_sizes: Tensor,
    classification_weight: float = 2.0,
    l1_weight: float = 5.0,
    giou_weight: float = 2.0,
    alpha: float = 0.25,
    gamma: float = 2.0,
) -> Tensor:
    """Finds the proposal of each target such that the total matching cost is smallest.

    Args:
        logits: ``[..., B, N, K]``; leading dimensions, such as the stages, are matched independently.
        boxes: ``[..., B, N, 4]`` xyxy in pixels.
        target_boxes: ``[B, M, 4]`` xyxy in pixels.
        target_labels: ``[B, M]`` int64 in 0..K-1; anything in the range where not valid.
        target_valid: ``[B, M]`` bool, False for padding.
        image_sizes: ``[B, 2]`` (height, width) in pixels.
        classification_weight: λ_cls.
        l1_weight: λ_L1.
        giou_weight: λ_giou.
        alpha: of the focal term.
        gamma: of the focal term.

    Returns:
        ``[..., B, M]`` int64: the proposal of each target, no proposal twice; -1 for padding, for targets
        left over where there are more than proposals, and for targets that only a non-finite cost was
        left for. No gradient.
    """
    with torch.no_grad():
        cost = matching_cost(
            logits,
            boxes,
            target_boxes,
            target_labels,
            image_sizes,
            classification_weight,
            l1_weight,
            giou_weight,
            alpha,
            gamma,
        )
        indices = torch.ops.sparse_rcnn.linear_sum_assignment(cost, target_valid)
    return indices
