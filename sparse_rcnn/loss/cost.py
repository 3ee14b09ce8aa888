"""Matching cost of every proposal with every target (paper, section 3.3; DETR, equation 2).

    cost = λ_cls focal + λ_L1 ‖b - b*‖₁ - λ_giou GIoU(b, b*)

focal is the change of the focal loss of the target's class when the proposal becomes its match.
"""

import torch
from torch import Tensor

from sparse_rcnn.loss.box_losses import paired_l1_loss
from sparse_rcnn.loss.weights import LossWeights, require_weights
from sparse_rcnn.ops.argument_checks import (
    readable,
    require_boxes,
    require_integers,
    require_real,
    require_sizes,
)
from sparse_rcnn.ops.boxes import at_least_float32, whwh
from sparse_rcnn.ops.iou import pairwise_giou

__all__ = ["matching_cost", "require_inputs", "require_labels"]


def matching_cost(
    logits: Tensor,
    boxes: Tensor,
    target_boxes: Tensor,
    target_labels: Tensor,
    image_sizes: Tensor,
    weights: LossWeights = LossWeights(),  # noqa: B008 (it is immutable)
) -> Tensor:
    """Cost of every pair of proposal and target.

    Args:
        logits: `[..., B, N, K]`. Leading dimensions, such as the stages, are optional.
        boxes: `[..., B, N, 4]` xyxy in pixels.
        target_boxes: `[B, M, 4]` xyxy in pixels.
        target_labels: `[B, M]` integers in 0..K-1.
        image_sizes: `[B, 2]` (height, width) in pixels. The L1 term divides boxes by it.
        weights: The weights of the three terms, and alpha and gamma of the focal term.

    Returns:
        `[..., B, N, M]`, at least float32.

    Raises:
        ValueError: If the shapes or types do not fit, a weight is negative, or a label is not in 0..K-1.
            Values are checked on the CPU only, outside of a compiled graph.

    Example:
        >>> logits, boxes = torch.zeros(1, 2, 1), torch.tensor([[[0.0, 0, 8, 8], [0.0, 0, 4, 8]]])
        >>> matching_cost(logits, boxes, boxes[:, :1], torch.tensor([[0]]), torch.tensor([[8, 8]]))
        tensor([[[-2.1733],
                 [ 1.3267]]])
    """
    require_inputs(logits, boxes, target_boxes, target_labels, image_sizes)
    require_weights(weights)
    if not torch.jit.is_scripting():
        require_labels(target_labels, logits.shape[-1])
    # Only the logits of the target's class count. Gather them first: the arithmetic is then on [N, M].
    labels = target_labels.to(torch.int64)[:, None, :].expand(logits.shape[:-1] + target_labels.shape[-1:])
    p = at_least_float32(logits).gather(-1, labels).sigmoid()  # [..., B, N, M]
    # 1e-8 keeps the logarithm finite. The value is that of the published code, since it decides near-ties.
    positive = (1 - p) ** weights.gamma * -(p + 1e-8).log()
    negative = p**weights.gamma * -(1 - p + 1e-8).log()
    if weights.alpha != -1:
        positive, negative = weights.alpha * positive, (1 - weights.alpha) * negative
    scale = whwh(image_sizes).to(boxes.device)[:, None, :]  # [B, 1, 4]
    boxes_norm, target_boxes_norm = at_least_float32(boxes) / scale, at_least_float32(target_boxes) / scale
    l1 = paired_l1_loss(boxes_norm[..., :, None, :], target_boxes_norm[..., None, :, :])
    giou = pairwise_giou(boxes, target_boxes)
    return weights.classification * (positive - negative) + weights.l1 * l1 - weights.giou * giou


def require_inputs(
    logits: Tensor, boxes: Tensor, target_boxes: Tensor, target_labels: Tensor, image_sizes: Tensor
) -> None:
    """Raises ValueError unless types and shapes fit together."""
    require_real("logits", logits)
    require_boxes("boxes", boxes)
    require_boxes("target_boxes", target_boxes)
    require_integers("target_labels", target_labels)
    require_sizes("image_sizes", image_sizes)
    if logits.dim() < 3 or list(boxes.shape) != list(logits.shape[:-1]) + [4]:  # noqa: RUF005 (what scripts)
        raise ValueError(
            f"logits must be [..., B, N, K] and boxes [..., B, N, 4], got {logits.shape} and {boxes.shape}"
        )
    if logits.shape[-1] < 1:
        raise ValueError(f"logits must be [..., B, N, K] of at least one class, got {logits.shape}")
    batch, num_targets = logits.shape[-3], target_labels.shape[-1]
    if list(target_boxes.shape) != [batch, num_targets, 4]:
        raise ValueError(f"target_boxes must be [{batch}, {num_targets}, 4], got {target_boxes.shape}")
    if list(target_labels.shape) != [batch, num_targets]:
        raise ValueError(f"target_labels must be [{batch}, M], got {target_labels.shape}")
    if list(image_sizes.shape) != [batch, 2]:
        raise ValueError(f"image_sizes must be [{batch}, 2], got {image_sizes.shape}")


def require_labels(labels: Tensor, num_classes: int) -> None:
    """Raises ValueError if values can be read and a label is not in 0..K-1.

    Without this check, a label of K would mean class 0 of the next proposal, and training would go on.
    """
    if readable(labels):
        wrong = labels[(labels < 0) | (labels >= num_classes)]
        if wrong.numel() > 0:
            raise ValueError(f"target_labels must be in 0..{num_classes - 1}, got {int(wrong[0])}")
