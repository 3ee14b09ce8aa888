r"""Intersection over union (IoU) and generalized IoU, of given pairs of boxes or of all pairs.

    IoU = |A ∩ B| / |A ∪ B|        GIoU = IoU - |C \ (A ∪ B)| / |C|

C is the smallest box around A and B (Rezatofighi et al. 2019, Generalized Intersection over Union).
"""

import torch
from torch import Tensor

from sparse_rcnn.ops.argument_checks import require_boxes, require_broadcast
from sparse_rcnn.ops.boxes import at_least_float32, largest

__all__ = ["paired_giou", "paired_iou", "pairwise_giou", "pairwise_iou"]


def paired_iou(boxes1: Tensor, boxes2: Tensor) -> Tensor:
    """IoU of each box with the box at the same place in `boxes2`.

    Args:
        boxes1: `[..., 4]` xyxy in any unit.
        boxes2: `[..., 4]` xyxy in the same unit. Broadcasts with `boxes1`.

    Returns:
        `[...]` in [0, 1]. 0 where both boxes are empty.

    Raises:
        ValueError: If a tensor is not `[..., 4]` or the shapes do not broadcast.

    Example:
        >>> paired_iou(torch.tensor([0.0, 0.0, 2.0, 2.0]), torch.tensor([1.0, 0.0, 3.0, 2.0]))
        tensor(0.3333)
    """
    boxes1, boxes2 = _checked(boxes1, boxes2)
    intersection, union = _intersection_and_union(boxes1, boxes2, _unit(boxes1, boxes2))
    return _ratio(intersection, union)


def paired_giou(boxes1: Tensor, boxes2: Tensor) -> Tensor:
    """Generalized IoU of each box with the box at the same place in `boxes2`.

    Args:
        boxes1: `[..., 4]` xyxy in any unit.
        boxes2: `[..., 4]` xyxy in the same unit. Broadcasts with `boxes1`.

    Returns:
        `[...]` in [-1, 1], never above the IoU. 0 where both boxes are the same point.

    Raises:
        ValueError: If a tensor is not `[..., 4]` or the shapes do not broadcast.

    Example:
        >>> paired_giou(torch.tensor([0.0, 0.0, 1.0, 1.0]), torch.tensor([3.0, 0.0, 4.0, 1.0]))
        tensor(-0.5000)
    """
    boxes1, boxes2 = _checked(boxes1, boxes2)
    unit = _unit(boxes1, boxes2)
    intersection, union = _intersection_and_union(boxes1, boxes2, unit)
    top_left = torch.minimum(boxes1[..., :2], boxes2[..., :2])
    bottom_right = torch.maximum(boxes1[..., 2:], boxes2[..., 2:])
    hull = _area(top_left, bottom_right, unit)
    return _ratio(intersection, union) - _ratio(hull - union, hull)


def pairwise_iou(boxes1: Tensor, boxes2: Tensor) -> Tensor:
    """IoU of every box of one set with every box of the other set.

    Args:
        boxes1: `[..., N, 4]` xyxy in any unit.
        boxes2: `[..., M, 4]` xyxy in the same unit.

    Returns:
        `[..., N, M]` in [0, 1].

    Raises:
        ValueError: If a tensor is not `[..., N, 4]` or the shapes do not broadcast.

    Example:
        >>> pairwise_iou(torch.tensor([[0.0, 0, 2, 2]]), torch.tensor([[0.0, 0, 2, 2], [0.0, 0, 1, 2]]))
        tensor([[1.0000, 0.5000]])
    """
    _require_sets(boxes1, boxes2)
    return paired_iou(boxes1[..., :, None, :], boxes2[..., None, :, :])


def pairwise_giou(boxes1: Tensor, boxes2: Tensor) -> Tensor:
    """Generalized IoU of every box of one set with every box of the other set.

    Args:
        boxes1: `[..., N, 4]` xyxy in any unit.
        boxes2: `[..., M, 4]` xyxy in the same unit.

    Returns:
        `[..., N, M]` in [-1, 1].

    Raises:
        ValueError: If a tensor is not `[..., N, 4]` or the shapes do not broadcast.

    Example:
        >>> pairwise_giou(torch.tensor([[0.0, 0, 2, 2]]), torch.tensor([[0.0, 0, 2, 2], [4.0, 0, 6, 2]]))
        tensor([[ 1.0000, -0.3333]])
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
    """`[..., 1]` factor for the sides of each pair: 1, or less if an area could overflow.

    The factor is a power of two, so it rounds nothing. In float32, areas overflow from sides of 1.8e19 on,
    and infinity divided by infinity is NaN.
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
    # Where the whole is empty, the part is empty, too: compute 0/1 instead of 0/0. An epsilon in the
    # denominator would change every other value. Below the limit, areas lose digits and gradients overflow.
    tiny = 1e-37 if whole.dtype == torch.float32 else 1e-300
    empty = whole < tiny
    return torch.where(empty, torch.zeros_like(part), part) / torch.where(
        empty, torch.ones_like(whole), whole
    )
