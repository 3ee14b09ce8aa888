r"""Intersection over union and generalized IoU, of all pairs or of given pairs.

    IoU = |A ∩ B| / |A ∪ B|        GIoU = IoU - |C \ (A ∪ B)| / |C|

with C the smallest box around both (Rezatofighi et al. 2019, Generalized Intersection over Union).
"""

import torch
from torch import Tensor

from sparse_rcnn.ops.boxes import at_least_float32, largest
from sparse_rcnn.ops.guards import require_boxes, require_broadcast

__all__ = ["paired_giou", "paired_iou", "pairwise_giou", "pairwise_iou"]


def paired_iou(boxes1: Tensor, boxes2: Tensor) -> Tensor:
    """IoU of each box with its partner.

    Args:
        boxes1: `[..., 4]` xyxy.
        boxes2: `[..., 4]` xyxy in the same unit, of a shape that broadcasts with `boxes1`.

    Returns:
        `[...]` in [0, 1]; 0 where both boxes are empty.

    Raises:
        ValueError: if a tensor is not `[..., 4]` or the shapes do not broadcast.
    """
    boxes1, boxes2 = _checked(boxes1, boxes2)
    intersection, union = _intersection_and_union(boxes1, boxes2, _unit(boxes1, boxes2))
    return _ratio(intersection, union)


def paired_giou(boxes1: Tensor, boxes2: Tensor) -> Tensor:
    """Generalized IoU of each box with its partner.

    Args:
        boxes1: `[..., 4]` xyxy.
        boxes2: `[..., 4]` xyxy in the same unit, of a shape that broadcasts with `boxes1`.

    Returns:
        `[...]` in [-1, 1], never above the IoU; 0 where both boxes are the same point.

    Raises:
        ValueError: if a tensor is not `[..., 4]` or the shapes do not broadcast.
    """
    boxes1, boxes2 = _checked(boxes1, boxes2)
    unit = _unit(boxes1, boxes2)
    intersection, union = _intersection_and_union(boxes1, boxes2, unit)
    top_left = torch.minimum(boxes1[..., :2], boxes2[..., :2])
    bottom_right = torch.maximum(boxes1[..., 2:], boxes2[..., 2:])
    hull = _area(top_left, bottom_right, unit)
    return _ratio(intersection, union) - _ratio(hull - union, hull)


def pairwise_iou(boxes1: Tensor, boxes2: Tensor) -> Tensor:
    """IoU of every box of the one set with every box of the other.

    Args:
        boxes1: `[..., N, 4]` xyxy.
        boxes2: `[..., M, 4]` xyxy in the same unit.

    Returns:
        `[..., N, M]` in [0, 1].

    Raises:
        ValueError: if a tensor is not `[..., N, 4]` or the shapes do not broadcast.
    """
    _require_sets(boxes1, boxes2)
    return paired_iou(boxes1[..., :, None, :], boxes2[..., None, :, :])


def pairwise_giou(boxes1: Tensor, boxes2: Tensor) -> Tensor:
    """Generalized IoU of every box of the one set with every box of the other.

    Args:
        boxes1: `[..., N, 4]` xyxy.
        boxes2: `[..., M, 4]` xyxy in the same unit.

    Returns:
        `[..., N, M]` in [-1, 1].

    Raises:
        ValueError: if a tensor is not `[..., N, 4]` or the shapes do not broadcast.
    """
    _require_sets(boxes1, boxes2)
    return paired_giou(boxes1[..., :, None, :], boxes2[..., None, :, :])


def _checked(boxes1: Tensor, boxes2: Tensor) -> tuple[Tensor, Tensor]:
    require_boxes("boxes1", boxes1)
    require_boxes("boxes2", boxes2)
    require_broadcast("boxes1", boxes1, "boxes2", boxes2)
    return at_least_float32(boxes1), at_least_float32(boxes2)


def _require_sets(boxes1: Tensor, boxes2: Tensor) -> None:
    require_boxes("boxes1", boxes1)
    require_boxes("boxes2", boxes2)
    if boxes1.dim() < 2 or boxes2.dim() < 2:
        raise ValueError(
            f"boxes1 and boxes2 must be [..., N, 4] and [..., M, 4], got {boxes1.shape} and {boxes2.shape}"
        )


def _unit(boxes1: Tensor, boxes2: Tensor) -> Tensor:
    """`[..., 1]` factor of a pair's sides, a power of two and so exact: 1 unless an area could overflow.

    In float32 it would above sides of 1.8e19, and infinity by infinity is NaN.
    """
    far, unit = 2.0**62, 2.0**-66
    if boxes1.dtype == torch.float64 or boxes2.dtype == torch.float64:
        far, unit = 2.0**510, 2.0**-514
    farthest = torch.maximum(boxes1.detach().abs().amax(dim=-1), boxes2.detach().abs().amax(dim=-1))
    return torch.ones_like(farthest).masked_fill(farthest > far, unit)[..., None]


def _area(top_left: Tensor, bottom_right: Tensor, unit: Tensor) -> Tensor:
    size = (bottom_right - top_left).clamp(0.0, largest(top_left)) * unit
    return size[..., 0] * size[..., 1]


def _intersection_and_union(boxes1: Tensor, boxes2: Tensor, unit: Tensor) -> tuple[Tensor, Tensor]:
    top_left = torch.maximum(boxes1[..., :2], boxes2[..., :2])
    bottom_right = torch.minimum(boxes1[..., 2:], boxes2[..., 2:])
    intersection = _area(top_left, bottom_right, unit)
    area1 = _area(boxes1[..., :2], boxes1[..., 2:], unit)
    area2 = _area(boxes2[..., :2], boxes2[..., 2:], unit)
    return intersection, area1 + area2 - intersection


def _ratio(part: Tensor, whole: Tensor) -> Tensor:
    # Where the whole is empty so is the part: 0/1 instead of 0/0, while an epsilon in the denominator would
    # shift every other value. Areas below the limit lose their digits, and their gradient overflows.
    tiny = 1e-37 if whole.dtype == torch.float32 else 1e-300
    empty = whole < tiny
    return torch.where(empty, torch.zeros_like(part), part) / torch.where(
        empty, torch.ones_like(whole), whole
    )
