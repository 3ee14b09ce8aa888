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
        target_labels: ``[B, M]`` int64 in 0..K-1; anything where not valid.
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

    Raises:
        ValueError: if the shapes do not fit, a valid label is not in 0..K-1, or a valid box is not finite
            or has its corners swapped (values are checked on the CPU, outside of a compiled graph).
    """
    _check_shapes(logits, boxes, target_boxes, target_labels, target_valid, image_sizes)
    if not torch.jit.is_scripting():
        _check_targets(target_boxes, target_labels, target_valid, logits.shape[-1])
    target_labels = torch.where(target_valid, target_labels, torch.zeros_like(target_labels))
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


def _check_shapes(
    logits: Tensor,
    boxes: Tensor,
    target_boxes: Tensor,
    target_labels: Tensor,
    target_valid: Tensor,
    image_sizes: Tensor,
) -> None:
    if logits.dim() < 3 or list(boxes.shape) != list(logits.shape[:-1]) + [4]:  # noqa: RUF005 (what scripts)
        raise ValueError(
            f"logits must be [..., B, N, K] and boxes [..., B, N, 4], got {logits.shape} and {boxes.shape}"
        )
    batch, num_targets = logits.shape[-3], target_labels.shape[-1]
    if list(target_boxes.shape) != [batch, num_targets, 4]:
        raise ValueError(f"target_boxes must be [{batch}, {num_targets}, 4], got {target_boxes.shape}")
    if list(target_labels.shape) != [batch, num_targets] or list(target_valid.shape) != [batch, num_targets]:
        raise ValueError(
            f"target_labels and target_valid must be [{batch}, M], "
            f"got {target_labels.shape} and {target_valid.shape}"
        )
    if list(image_sizes.shape) != [batch, 2]:
        raise ValueError(f"image_sizes must be [{batch}, 2], got {image_sizes.shape}")


def _check_targets(
    target_boxes: Tensor, target_labels: Tensor, target_valid: Tensor, num_classes: int
) -> None:
    # A label of K would count for class 0 of the next proposal: "off by one" must be heard, not learned.
    if torch.compiler.is_compiling() or target_labels.device.type != "cpu":
        return  # no branching on values inside a graph, no extra transfer from a device
    wrong = target_labels[target_valid & ((target_labels < 0) | (target_labels >= num_classes))]
    if wrong.numel() > 0:
        raise ValueError(f"target_labels must be in 0..{num_classes - 1}, got {int(wrong[0])}")
    lost = target_boxes[target_valid & ~torch.isfinite(target_boxes).all(dim=-1)]
    if lost.numel() > 0:
        raise ValueError(f"target_boxes must be finite, got {lost[0].tolist()}")
    swapped = target_boxes[target_valid & (target_boxes[..., 2:] < target_boxes[..., :2]).any(dim=-1)]
    if swapped.numel() > 0:
        raise ValueError(f"target_boxes must be xyxy with x1 <= x2 and y1 <= y2, got {swapped[0].tolist()}")
