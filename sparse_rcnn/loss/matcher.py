"""Optimal one-to-one matching of targets and proposals, of all stages at once (paper, section 3.3)."""

import torch
from torch import Tensor

from sparse_rcnn.loss.cost import matching_cost, require_inputs, require_labels
from sparse_rcnn.loss.weights import LossWeights
from sparse_rcnn.ops.argument_checks import readable, require_flags

__all__ = ["match_proposals", "require_targets"]


def match_proposals(
    logits: Tensor,
    boxes: Tensor,
    target_boxes: Tensor,
    target_labels: Tensor,
    target_valid: Tensor,
    image_sizes: Tensor,
    weights: LossWeights = LossWeights(),  # noqa: B008 (it is immutable)
) -> Tensor:
    """Finds one proposal for each target, so that the total matching cost is smallest.

    Args:
        logits: `[..., B, N, K]`. Leading dimensions, such as the stages, are matched independently.
        boxes: `[..., B, N, 4]` xyxy in pixels.
        target_boxes: `[B, M, 4]` xyxy in pixels.
        target_labels: `[B, M]` integers in 0..K-1. Any number where not valid.
        target_valid: `[B, M]` bool, False for padding.
        image_sizes: `[B, 2]` (height, width) in pixels.
        weights: The weights of the matching cost.

    Returns:
        `[..., B, M]` int64, the proposal of each target. No proposal comes twice. A target gets -1 if it is
        padding, if all proposals are taken, or if no finite cost is left for it. No gradient.

    Raises:
        ValueError: If the shapes or types do not fit, a weight is negative, a valid label is not in 0..K-1,
            or a valid box is not finite or has its corners swapped. Values are checked on the CPU only,
            outside of a compiled graph.

    Example:
        >>> logits, boxes = torch.zeros(1, 2, 1), torch.tensor([[[0.0, 0, 8, 8], [0.0, 0, 4, 8]]])
        >>> label, valid = torch.tensor([[0]]), torch.tensor([[True]])
        >>> match_proposals(logits, boxes, boxes[:, 1:], label, valid, torch.tensor([[8, 8]]))
        tensor([[1]])
    """
    require_inputs(logits, boxes, target_boxes, target_labels, image_sizes)
    require_flags("target_valid", target_valid)
    if list(target_valid.shape) != list(target_labels.shape):
        raise ValueError(f"target_valid must be {list(target_labels.shape)}, got {target_valid.shape}")
    if not torch.jit.is_scripting():
        require_targets(target_boxes, target_labels, target_valid, logits.shape[-1])
    target_labels = torch.where(target_valid, target_labels, torch.zeros_like(target_labels))
    with torch.no_grad():
        cost = matching_cost(
            logits,
            boxes,
            target_boxes,
            target_labels,
            image_sizes,
            weights,
        )
        indices = torch.ops.sparse_rcnn.linear_sum_assignment(cost, target_valid)
    return indices


def require_targets(target_boxes: Tensor, target_labels: Tensor, valid: Tensor, num_classes: int) -> None:
    """Raises ValueError for a valid target with a wrong label or a malformed box, if values can be read."""
    if not readable(target_boxes, target_labels, valid):
        return
    require_labels(target_labels[valid], num_classes)
    boxes = target_boxes[valid]
    lost = boxes[~torch.isfinite(boxes).all(dim=-1)]
    if lost.numel() > 0:
        raise ValueError(f"target_boxes must be finite, got {lost[0].tolist()}")
    swapped = boxes[(boxes[..., 2:] < boxes[..., :2]).any(dim=-1)]
    if swapped.numel() > 0:
        raise ValueError(f"target_boxes must be xyxy with x1 <= x2 and y1 <= y2, got {swapped[0].tolist()}")
