"""Task-aligned assignment of targets to dense predictions (Feng et al. 2021, TOOD, section 3.2).

    t = s^α · IoU^β        s: score of the target's class

Each target takes the positions inside its box whose alignment t is largest. If several targets take one
position, the position belongs to the target with the largest IoU.
"""

import torch
from torch import Tensor

from sparse_rcnn.loss.matcher import require_targets
from sparse_rcnn.ops.argument_checks import (
    require_boxes,
    require_count,
    require_flags,
    require_integers,
    require_number,
    require_real,
)
from sparse_rcnn.ops.boxes import at_least_float32
from sparse_rcnn.ops.iou import pairwise_iou

__all__ = ["task_aligned_assignment"]


def task_aligned_assignment(
    logits: Tensor,
    boxes: Tensor,
    points: Tensor,
    target_boxes: Tensor,
    target_labels: Tensor,
    target_valid: Tensor,
    most: int = 9,
    alpha: float = 0.5,
    beta: float = 4.0,
) -> tuple[Tensor, Tensor]:
    """Assigns to each target the positions that predict it best.

    All shapes are static: there is no loop over images and no `nonzero`.

    Args:
        logits: `[B, P, K]` class logits of all positions.
        boxes: `[B, P, 4]` xyxy in pixels.
        points: `[P, 2]` (x, y) in pixels, the centre of each position.
        target_boxes: `[B, M, 4]` xyxy in pixels. M may be 0.
        target_labels: `[B, M]` int64 in 0..K-1. Padding may have any values.
        target_valid: `[B, M]` bool, False for padding.
        most: The largest number of positions of a target.
        alpha: Exponent of the score.
        beta: Exponent of the IoU.

    Returns:
        `[B, P]` int64, the target of each position, or -1. `[B, P]`, the IoU with that target, or 0. Neither
        has a gradient.

    Raises:
        ValueError: If shapes or types do not fit, or a number is out of range. On the CPU and outside of a
            graph, also if a valid label is not in 0..K-1 or a valid box is malformed.

    Example:
        >>> logits, boxes = torch.zeros(1, 2, 1), torch.tensor([[[0.0, 0, 8, 8], [40, 40, 48, 48]]])
        >>> points, labels = torch.tensor([[4.0, 4], [44, 44]]), torch.zeros(1, 1, dtype=torch.int64)
        >>> valid = torch.ones(1, 1, dtype=torch.bool)
        >>> task_aligned_assignment(logits, boxes, points, boxes[:, :1], labels, valid)[0]
        tensor([[ 0, -1]])
    """
    _require_inputs(logits, boxes, points, target_boxes, target_labels, target_valid)
    require_count("most", most)
    require_number("alpha", alpha)
    require_number("beta", beta)
    batch, num_points = logits.shape[0], logits.shape[1]
    with torch.no_grad():
        target_boxes, points = at_least_float32(target_boxes), at_least_float32(points)
        labels = torch.where(target_valid, target_labels, torch.zeros_like(target_labels)).to(torch.int64)
        scores = at_least_float32(logits).sigmoid().transpose(1, 2)  # [B, K, P]
        scores = scores.gather(1, labels[:, :, None].expand(-1, -1, num_points))  # [B, M, P]
        iou = pairwise_iou(target_boxes, boxes)  # [B, M, P]
        above = (points > target_boxes[:, :, None, :2]).all(dim=-1)
        below = (points < target_boxes[:, :, None, 2:]).all(dim=-1)
        inside = above & below & target_valid[:, :, None]  # [B, M, P]
        # A position that a target may not take gets -1, since an alignment is at least 0.
        alignment = torch.where(inside, scores.pow(alpha) * iou.pow(beta), torch.full_like(iou, -1.0))
        best = alignment.topk(min(most, num_points), dim=2).indices
        taken = torch.zeros_like(inside).scatter(2, best, torch.ones_like(best, dtype=torch.bool)) & inside
        # Another target comes first: it takes the positions that no target takes. So M may be 0.
        wanted = torch.where(taken, iou, torch.full_like(iou, -1.0))
        nobody = torch.full([batch, 1, num_points], -0.5, dtype=iou.dtype, device=iou.device)
        quality, owner = torch.cat((nobody, wanted), dim=1).max(dim=1)  # [B, P]
    return owner - 1, quality.clamp(min=0)


def _require_inputs(
    logits: Tensor, boxes: Tensor, points: Tensor, target_boxes: Tensor, target_labels: Tensor, valid: Tensor
) -> None:
    require_real("logits", logits)
    require_boxes("boxes", boxes)
    require_real("points", points)
    require_boxes("target_boxes", target_boxes)
    require_integers("target_labels", target_labels)
    require_flags("target_valid", valid)
    if (
        logits.dim() != 3
        or logits.shape[-1] < 1
        or list(boxes.shape) != [logits.shape[0], logits.shape[1], 4]
    ):
        raise ValueError(
            f"logits must be [B, P, K] and boxes [B, P, 4], got {logits.shape} and {boxes.shape}"
        )
    if list(points.shape) != [logits.shape[1], 2]:
        raise ValueError(f"points must be [{logits.shape[1]}, 2], got {points.shape}")
    batch, num_targets = logits.shape[0], target_labels.shape[-1] if target_labels.dim() > 0 else 0
    if list(target_boxes.shape) != [batch, num_targets, 4]:
        raise ValueError(f"target_boxes must be [{batch}, {num_targets}, 4], got {target_boxes.shape}")
    if list(target_labels.shape) != [batch, num_targets] or list(valid.shape) != [batch, num_targets]:
        raise ValueError(
            f"target_labels and target_valid must be [{batch}, M], "
            f"got {target_labels.shape} and {valid.shape}"
        )
    if not torch.jit.is_scripting():
        require_targets(target_boxes, target_labels, valid, logits.shape[-1])
