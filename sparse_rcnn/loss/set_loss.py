"""Set prediction loss: match, then classify every proposal and fit the matched boxes (paper, section 3.3).

loss = λ_cls focal + λ_L1 L1 + λ_giou (1 - GIoU), each summed and divided by the number of targets
"""

from typing import NamedTuple

import torch
from torch import Tensor

from sparse_rcnn.loss.boxes import paired_giou_loss, paired_l1_loss
from sparse_rcnn.loss.focal import sigmoid_focal_loss
from sparse_rcnn.loss.matcher import match_proposals
from sparse_rcnn.ops.boxes import at_least_float32, whwh


class SetLoss(NamedTuple):
    """Weighted losses of all stages.

    Attributes:
        total: scalar, the sum of all others; what to call ``backward`` on.
        classification: ``[L]`` focal loss.
        l1: ``[L]`` L1 loss of boxes divided by the image size.
        giou: ``[L]`` generalized IoU loss.
    """

    total: Tensor
    classification: Tensor
    l1: Tensor
    giou: Tensor


def set_prediction_loss(
    logits: Tensor,
    boxes: Tensor,
    target_boxes: Tensor,
    target_labels: Tensor,
    target_valid: Tensor,
    image_sizes: Tensor,
    num_targets: Tensor,
    classification_weight: float = 2.0,
    l1_weight: float = 5.0,
    giou_weight: float = 2.0,
    alpha: float = 0.25,
    gamma: float = 2.0,
) -> SetLoss:
    """Loss of all stages at once, each matched on its own.

    Args:
        logits: ``[L, B, N, K]``.
        boxes: ``[L, B, N, 4]`` xyxy in pixels.
        target_boxes: ``[B, M, 4]`` xyxy in pixels; M may be 0.
        target_labels: ``[B, M]`` int64 in 0..K-1; anything where not valid.
        target_valid: ``[B, M]`` bool, False for padding.
        image_sizes: ``[B, 2]`` (height, width) in pixels.
        num_targets: scalar normaliser: the number of valid targets, averaged over ranks by the caller.
            Less than 1 counts as 1.
        classification_weight: λ_cls, of cost and loss.
        l1_weight: λ_L1.
        giou_weight: λ_giou.
        alpha: of the focal loss.
        gamma: of the focal loss.

    Returns:
        The weighted losses. Targets without a proposal (-1 of the matcher) add nothing. A logit or box
        that is not finite, matched or not, makes the loss of its stage NaN.

    Raises:
        ValueError: if the shapes do not fit, or a valid label is not in 0..K-1, or a valid box is not finite
            (values are checked on the CPU, outside of a compiled graph).
    """
    _check_shapes(logits, boxes, target_boxes, target_labels, target_valid, image_sizes)
    if not torch.jit.is_scripting():
        _check_targets(target_boxes, target_labels, target_valid, logits.shape[-1])
    target_labels = torch.where(target_valid, target_labels, torch.zeros_like(target_labels))
    indices = match_proposals(
        logits,
        boxes,
        target_boxes,
        target_labels,
        target_valid,
        image_sizes,
        classification_weight,
        l1_weight,
        giou_weight,
        alpha,
        gamma,
    )  # [L, B, M]
    matched = indices >= 0
    proposal = indices.clamp(min=0)
    logits = at_least_float32(logits)
    num_classes = logits.shape[-1]
    # Unmatched targets add 0 to the entry of some proposal, so that shapes stay static.
    entry = proposal * num_classes + target_labels  # [L, B, M] of N*K
    class_targets = torch.zeros_like(logits).flatten(2).scatter_add(2, entry, matched.to(logits.dtype))
    focal = sigmoid_focal_loss(logits.flatten(2), class_targets, alpha, gamma)  # [L, B, N*K]

    matched_boxes = at_least_float32(boxes).gather(
        2, proposal[..., None].expand(-1, -1, -1, 4)
    )  # [L, B, M, 4]
    # Swapped before the arithmetic, not masked after it: 0 * NaN would be NaN, in the gradient too.
    safe_boxes = torch.where(matched[..., None], matched_boxes, torch.zeros_like(matched_boxes))
    safe_targets = torch.where(matched[..., None], at_least_float32(target_boxes)[None], safe_boxes)
    scale = whwh(image_sizes)[:, None, :]  # [B, 1, 4]
    l1 = paired_l1_loss(safe_boxes / scale, safe_targets / scale)  # [L, B, M]
    giou = paired_giou_loss(safe_boxes, safe_targets) * matched

    normaliser = torch.as_tensor(num_targets, dtype=logits.dtype, device=logits.device).clamp(min=1)
    classification_loss = classification_weight * focal.sum(dim=(1, 2)) / normaliser  # [L]
    # A box that is not finite has no match and so no error: 0 * NaN keeps it from passing for a perfect one.
    poison = ((at_least_float32(boxes) * 0).sum(dim=3) + (logits * 0).sum(dim=3)).sum(dim=(1, 2))  # [L]
    l1_loss = l1_weight * l1.sum(dim=(1, 2)) / normaliser + poison  # [L]
    giou_loss = giou_weight * giou.sum(dim=(1, 2)) / normaliser  # [L]
    total = (classification_loss + l1_loss + giou_loss).sum()
    return SetLoss(total, classification_loss, l1_loss, giou_loss)


def _check_shapes(
    logits: Tensor,
    boxes: Tensor,
    target_boxes: Tensor,
    target_labels: Tensor,
    target_valid: Tensor,
    image_sizes: Tensor,
) -> None:
    if logits.dim() != 4 or list(boxes.shape) != list(logits.shape[:3]) + [4]:  # noqa: RUF005 (what scripts)
        raise ValueError(
            f"logits must be [L, B, N, K] and boxes [L, B, N, 4], got {logits.shape}, {boxes.shape}"
        )
    batch, num_targets = logits.shape[1], target_labels.shape[-1]
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
