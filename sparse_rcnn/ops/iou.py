r"""Intersection over union and generalized IoU, of all pairs or of given pairs.

    IoU = |A ∩ B| / |A ∪ B|        GIoU = IoU - |C \ (A ∪ B)| / |C|

with C the smallest box around both (Rezatofighi et al. 2019, Generalized Intersection over Union).
"""

import torch
from torch import Tensor

from sparse_rcnn.ops.boxes import at_least_float32, box_area


def paired_iou(boxes1: Tensor, boxes2: Tensor) -> Tensor:
    """IoU of each box with its partner.

    Args:
        boxes1: ``[..., 4]`` xyxy.
        boxes2: ``[..., 4]`` xyxy in the same unit, of a shape that broadcasts with ``boxes1``.

    Returns:
        ``[...]`` in [0, 1]; 0 where both boxes are empty.
    """
    boxes1, boxes2 = at_least_float32(boxes1), at_least_float32(boxes2)
    intersection, union = _intersection_and_union(boxes1, boxes2)
    return _ratio(intersection, union)


def paired_giou(boxes1: Tensor, boxes2: Tensor) -> Tensor:
    """Generalized IoU of each box with its partner.

    Args:
        boxes1: ``[..., 4]`` xyxy.
        boxes2: ``[..., 4]`` xyxy in the same unit, of a shape that broadcasts with ``boxes1``.

    Returns:
        ``[...]`` in [-1, 1], never above the IoU; 0 where both boxes are the same point.
    """
    boxes1, boxes2 = at_least_float32(boxes1), at_least_float32(boxes2)
    intersection, union = _intersection_and_union(boxes1, boxes2)
    hull = torch.cat(
        (torch.minimum(boxes1[..., :2], boxes2[..., :2]), torch.maximum(boxes1[..., 2:], boxes2[..., 2:])),
        dim=-1,
    )
    hull_area = box_area(hull)
    return _ratio(intersection, union) - _ratio(hull_area - union, hull_area)


def pairwise_iou(boxes1: Tensor, boxes2: Tensor) -> Tensor:
    """IoU of every box of the one set with every box of the other.

    Args:
        boxes1: ``[..., N, 4]`` xyxy.
        boxes2: ``[..., M, 4]`` xyxy in the same unit.

    Returns:
        ``[..., N, M]`` in [0, 1].
    """
    return paired_iou(boxes1[..., :, None, :], boxes2[..., None, :, :])


def pairwise_giou(boxes1: Tensor, boxes2: Tensor) -> Tensor:
    """Generalized IoU of every box of the one set with every box of the other.

    Args:
        boxes1: ``[..., N, 4]`` xyxy.
        boxes2: ``[..., M, 4]`` xyxy in the same unit.

    Returns:
        ``[..., N, M]`` in [-1, 1].
    """
    return paired_giou(boxes1[..., :, None, :], boxes2[..., None, :, :])


def _intersection_and_union(boxes1: Tensor, boxes2: Tensor) -> tuple[Tensor, Tensor]:
    top_left = torch.maximum(boxes1[..., :2], boxes2[..., :2])
    bottom_right = torch.minimum(boxes1[..., 2:], boxes2[..., 2:])
    size = (bottom_right - top_left).clamp(min=0)
    intersection = size[..., 0] * size[..., 1]
    return intersection, box_area(boxes1) + box_area(boxes2) - intersection


def _ratio(part: Tensor, whole: Tensor) -> Tensor:
    # Where the whole is empty so is the part: 0/1 instead of 0/0, while an epsilon in the denominator would
    # shift every other value. Areas below the limit lose their digits, and their gradient overflows.
    tiny = 1e-37 if whole.dtype == torch.float32 else 1e-300
    empty = whole < tiny
    return torch.where(empty, torch.zeros_like(part), part) / torch.where(
        empty, torch.ones_like(whole), whole
    )
