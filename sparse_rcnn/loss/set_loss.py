"""Set prediction loss: match, then classify every proposal and fit the matched boxes (paper, section 3.3).

loss = λ_cls focal + λ_L1 L1 + λ_giou (1 - GIoU). Each term is a sum, divided by the number of targets.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from sparse_rcnn.loss.box_losses import paired_giou_loss, paired_l1_loss
from sparse_rcnn.loss.focal import quality_focal_terms
from sparse_rcnn.loss.matcher import match_proposals
from sparse_rcnn.loss.weights import LossWeights
from sparse_rcnn.ops.argument_checks import readable
from sparse_rcnn.ops.boxes import at_least_float32, whwh
from sparse_rcnn.ops.iou import paired_iou

__all__ = ["SetLoss", "require_scalar", "set_prediction_loss"]


class SetLoss(NamedTuple):
    """Weighted losses of all stages.

    Attributes:
        total: Scalar, the sum of all other losses. Call `backward` on it.
        classification: `[L]`, the focal loss of each stage.
        l1: `[L]`, the L1 loss of each stage. Boxes are divided by the image size.
        giou: `[L]`, the generalized IoU loss of each stage.
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
    weights: LossWeights = LossWeights(),  # noqa: B008 (it is immutable)
) -> SetLoss:
    """Loss of all stages at once. Each stage has its own matching.

    Args:
        logits: `[L, B, N, K]`.
        boxes: `[L, B, N, 4]` xyxy in pixels.
        target_boxes: `[B, M, 4]` xyxy in pixels. M may be 0.
        target_labels: `[B, M]` integers in 0..K-1. Any number where not valid.
        target_valid: `[B, M]` bool, False for padding.
        image_sizes: `[B, 2]` (height, width) in pixels, on any device.
        num_targets: Scalar, the number of valid targets. The losses are divided by it. With several
            processes, give the mean over all of them. Less than 1 counts as 1.
        weights: The weights of the three terms, in the matching cost and in the loss, and what class scores
            learn.

    Returns:
        The weighted losses. Targets without a proposal add nothing. If a logit or a box of a stage is not
        finite, the loss of this stage is NaN.

    Raises:
        ValueError: If the shapes or types do not fit, a weight is negative, `num_targets` is not finite, a
            valid label is not in 0..K-1, or a valid box is not finite or has its corners swapped. Values are
            checked on the CPU only, outside of a compiled graph.

    Example:
        >>> logits, boxes = torch.zeros(1, 1, 2, 1), torch.tensor([[[[0.0, 0, 8, 8], [0.0, 0, 4, 8]]]])
        >>> targets = boxes[0, :, :1], torch.tensor([[0]]), torch.tensor([[True]])
        >>> set_prediction_loss(logits, boxes, *targets, torch.tensor([[8, 8]]), torch.tensor(1)).l1
        tensor([0.])
    """
    if not torch.jit.is_scripting():
        require_scalar("num_targets", num_targets)
    indices = match_proposals(
        logits,
        boxes,
        target_boxes,
        target_labels,
        target_valid,
        image_sizes,
        weights,
    )  # [L, B, M]
    if logits.dim() != 4:
        raise ValueError(f"logits must be [L, B, N, K], got {logits.shape}")
    if logits.shape[2] == 0:
        # Without proposals there is no loss. These sums of empty tensors are 0 and have a gradient.
        none = (logits.sum(dim=(1, 2, 3)) + boxes.sum(dim=(1, 2, 3))).to(at_least_float32(logits).dtype)
        return SetLoss(none.sum(), none, none, none)
    matched = indices >= 0
    proposal = indices.clamp(min=0)
    target_labels = torch.where(target_valid, target_labels, torch.zeros_like(target_labels)).to(torch.int64)
    logits = at_least_float32(logits)
    num_classes = logits.shape[-1]
    matched_boxes = at_least_float32(boxes).gather(
        2, proposal[..., None].expand(-1, -1, -1, 4)
    )  # [L, B, M, 4]
    # Replace unmatched boxes before the arithmetic. A mask after it would give 0 * NaN, which is NaN.
    safe_boxes = torch.where(matched[..., None], matched_boxes, torch.zeros_like(matched_boxes))
    safe_targets = torch.where(matched[..., None], at_least_float32(target_boxes)[None], safe_boxes)
    scale = whwh(image_sizes).to(logits.device)[:, None, :]  # [B, 1, 4]
    l1 = paired_l1_loss(safe_boxes / scale, safe_targets / scale)  # [L, B, M]
    giou = paired_giou_loss(safe_boxes, safe_targets) * matched

    # Shapes stay static: an unmatched target adds 0 to the entry of proposal 0.
    entry = proposal * num_classes + target_labels  # [L, B, M] of N*K
    nothing = torch.zeros_like(logits).flatten(2)  # [L, B, N*K]
    quality = matched.to(logits.dtype)  # [L, B, M], what the class score of a match learns
    if weights.least_quality < 1:
        overlap = paired_iou(safe_boxes, safe_targets).detach().clamp(min=weights.least_quality)
        quality = (overlap * matched).to(logits.dtype)
    class_targets = nothing.scatter_add(2, entry, quality)
    focal = quality_focal_terms(logits.flatten(2), class_targets, weights.alpha, weights.gamma)

    normaliser = torch.as_tensor(num_targets, dtype=logits.dtype, device=logits.device).clamp(min=1)
    classification_loss = weights.classification * focal.sum(dim=(1, 2)) / normaliser  # [L]
    # A box that is not finite gets no match, so it would add no loss. 0 * NaN makes the loss NaN instead.
    poison = ((at_least_float32(boxes) * 0).sum(dim=3) + (logits * 0).sum(dim=3)).sum(dim=(1, 2))  # [L]
    l1_loss = weights.l1 * l1.sum(dim=(1, 2)) / normaliser + poison  # [L]
    giou_loss = weights.giou * giou.sum(dim=(1, 2)) / normaliser  # [L]
    # A target can be without a proposal although one was free: no cost left to it was finite. The loss of
    # the stage is NaN then, too.
    most = target_valid.sum(dim=1).clamp(max=logits.shape[2])  # [B]
    lost = (matched.sum(dim=2) < most).any(dim=1)  # [L]
    l1_loss = torch.where(lost, torch.full_like(l1_loss, float("nan")), l1_loss)
    total = (classification_loss + l1_loss + giou_loss).sum()
    return SetLoss(total, classification_loss, l1_loss, giou_loss)


def require_scalar(name: str, value: Tensor | float) -> None:
    """Raises ValueError unless the value is one finite number."""
    if torch.compiler.is_compiling():
        return
    try:
        number = torch.as_tensor(value).detach()
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{name} must be a number, got {type(value).__name__}") from error
    if number.numel() != 1 or number.is_complex() or number.dtype == torch.bool:
        raise ValueError(f"{name} must be one real number, got {list(number.shape)} of {number.dtype}")
    if readable(number) and not bool(torch.isfinite(number)):
        raise ValueError(f"{name} must be finite, got {float(number)}")
