"""The loss of dense predictions (Feng et al. 2021, TOOD, section 3.3).

Targets are assigned to positions by `task_aligned_assignment`. The class score learns the IoU (Zhang et al.
2021, VarifocalNet).
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from sparse_rcnn.loss.box_losses import paired_giou_loss
from sparse_rcnn.loss.set_loss import require_scalar
from sparse_rcnn.loss.task_aligned import task_aligned_assignment
from sparse_rcnn.ops.argument_checks import require_number
from sparse_rcnn.ops.boxes import at_least_float32

__all__ = ["DenseLoss", "dense_prediction_loss"]


class DenseLoss(NamedTuple):
    """Weighted losses of dense predictions.

    Attributes:
        total: Scalar, the sum of the other two.
        classification: Scalar, the varifocal loss.
        giou: Scalar, the generalized IoU loss.
    """

    total: Tensor
    classification: Tensor
    giou: Tensor


def dense_prediction_loss(
    logits: Tensor,
    boxes: Tensor,
    points: Tensor,
    target_boxes: Tensor,
    target_labels: Tensor,
    target_valid: Tensor,
    num_targets: Tensor,
    classification_weight: float = 1.0,
    giou_weight: float = 2.0,
    most: int = 9,
    least_quality: float = 0.05,
) -> DenseLoss:
    """Loss of dense predictions: varifocal loss of the classes, GIoU loss of the assigned boxes.

    Args:
        logits: `[B, P, K]` class logits of all positions.
        boxes: `[B, P, 4]` xyxy in pixels.
        points: `[P, 2]` (x, y) in pixels, the centre of each position.
        target_boxes: `[B, M, 4]` xyxy in pixels. M may be 0.
        target_labels: `[B, M]` int64 in 0..K-1. Padding may have any values.
        target_valid: `[B, M]` bool, False for padding.
        num_targets: Scalar, the number of targets of the whole batch, as in `set_prediction_loss`. Losses of
            parts of a batch then add up to the loss of the whole.
        classification_weight: Weight of the varifocal loss.
        giou_weight: Weight of the GIoU loss.
        most: The largest number of positions of a target.
        least_quality: The lowest IoU that the class score of an assigned position learns. So the class learns
            something while the boxes are still bad.

    Returns:
        The weighted losses, divided by `num_targets` and by half of `most`. This is about the weight of the
        positions of all targets.

    Raises:
        ValueError: As in `task_aligned_assignment`, or if `num_targets` is not finite.

    Example:
        >>> logits, boxes = torch.zeros(1, 1, 1), torch.tensor([[[0.0, 0, 8, 8]]])
        >>> labels, valid = torch.zeros(1, 1, dtype=torch.int64), torch.ones(1, 1, dtype=torch.bool)
        >>> arguments = (logits, boxes, torch.tensor([[4.0, 4]]), boxes, labels, valid, torch.tensor(1))
        >>> dense_prediction_loss(*arguments).giou
        tensor(0.)
    """
    if not torch.jit.is_scripting():
        require_scalar("num_targets", num_targets)
    require_number("classification_weight", classification_weight)
    require_number("giou_weight", giou_weight)
    require_number("least_quality", least_quality, 0.0, 1.0)
    owner, quality = task_aligned_assignment(
        logits, boxes, points, target_boxes, target_labels, target_valid, most
    )  # [B, P]
    logits, boxes = at_least_float32(logits), at_least_float32(boxes)
    assigned = owner >= 0
    quality = torch.where(assigned, quality.clamp(min=least_quality), quality)
    # One target more, of nothing: positions without a target gather it, and M may be 0.
    all_boxes = F.pad(at_least_float32(target_boxes).to(boxes.dtype), (0, 0, 1, 0))
    all_labels = F.pad(torch.where(target_valid, target_labels, torch.zeros_like(target_labels)), (1, 0)).to(
        torch.int64
    )
    index = owner + 1
    goals = all_boxes.gather(1, index[:, :, None].expand(-1, -1, 4))  # [B, P, 4]
    labels = all_labels.gather(1, index)  # [B, P]
    # Swapped before the arithmetic, not masked after it: 0 * NaN would be NaN, in the gradient too.
    giou = paired_giou_loss(
        torch.where(assigned[:, :, None], boxes, torch.zeros_like(boxes)), goals
    )  # [B, P]
    wanted = torch.zeros_like(logits).scatter(
        2, labels[:, :, None], quality[:, :, None].to(logits.dtype)
    )  # [B, P, K]
    weight = torch.where(wanted > 0, wanted, 0.75 * logits.detach().sigmoid() ** 2)
    cross_entropy = F.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
    normaliser = (
        torch.as_tensor(num_targets, dtype=logits.dtype, device=logits.device).clamp(min=1) * most / 2
    )
    classification_loss = classification_weight * (cross_entropy * weight).sum() / normaliser
    giou_loss = giou_weight * (giou * quality * assigned).sum() / normaliser
    return DenseLoss(classification_loss + giou_loss, classification_loss, giou_loss)
