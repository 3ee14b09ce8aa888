"""Matching cost of every proposal with every target (paper, section 3.3; DETR, equation 2).

    cost = λ_cls focal + λ_L1 ‖b - b*‖₁ - λ_giou GIoU(b, b*)

where focal is what the focal loss of the target's class would change by if the proposal were its match.
"""

from torch import Tensor

from sparse_rcnn.loss.box_losses import paired_l1_loss
from sparse_rcnn.ops.boxes import at_least_float32, whwh
from sparse_rcnn.ops.iou import pairwise_giou


def matching_cost(
    logits: Tensor,
    boxes: Tensor,
    target_boxes: Tensor,
    target_labels: Tensor,
    image_sizes: Tensor,
    classification_weight: float = 2.0,
    l1_weight: float = 5.0,
    giou_weight: float = 2.0,
    alpha: float = 0.25,
    gamma: float = 2.0,
) -> Tensor:
    """Cost of every pair of proposal and target.

    Args:
        logits: ``[..., B, N, K]``; leading dimensions, such as the stages, are optional.
        boxes: ``[..., B, N, 4]`` xyxy in pixels.
        target_boxes: ``[B, M, 4]`` xyxy in pixels.
        target_labels: ``[B, M]`` int64 in 0..K-1.
        image_sizes: ``[B, 2]`` (height, width); boxes are divided by it for the L1 term.
        classification_weight: λ_cls.
        l1_weight: λ_L1.
        giou_weight: λ_giou.
        alpha: of the focal term.
        gamma: of the focal term.

    Returns:
        ``[..., B, N, M]``, at least float32.
    """
    # Only the target's class of every proposal matters: gather first, then do the arithmetic on [N, M].
    labels = target_labels[:, None, :].expand(logits.shape[:-1] + target_labels.shape[-1:])
    p = at_least_float32(logits).gather(-1, labels).sigmoid()  # [..., B, N, M]
    # 1e-8: the published code's guard of the logarithm. It decides near-ties, so it is kept to the letter.
    positive = alpha * (1 - p) ** gamma * -(p + 1e-8).log()
    negative = (1 - alpha) * p**gamma * -(1 - p + 1e-8).log()
    scale = whwh(image_sizes).to(boxes.device)[:, None, :]  # [B, 1, 4]
    boxes_norm, target_boxes_norm = at_least_float32(boxes) / scale, at_least_float32(target_boxes) / scale
    l1 = paired_l1_loss(boxes_norm[..., :, None, :], target_boxes_norm[..., None, :, :])
    giou = pairwise_giou(boxes, target_boxes)
    return classification_weight * (positive - negative) + l1_weight * l1 - giou_weight * giou
