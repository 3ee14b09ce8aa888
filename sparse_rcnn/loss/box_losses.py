"""Box losses of given pairs: L1 and generalized IoU (DETR, Carion et al. 2020, section 3.1)."""

from torch import Tensor

from sparse_rcnn.ops.boxes import at_least_float32
from sparse_rcnn.ops.guards import require_boxes, require_broadcast
from sparse_rcnn.ops.iou import paired_giou

__all__ = ["paired_giou_loss", "paired_l1_loss"]


def paired_l1_loss(boxes: Tensor, target_boxes: Tensor) -> Tensor:
    """Sum of the four absolute differences of each pair, not reduced over pairs.

    Args:
        boxes: `[..., 4]`, normalised by the image size in Sparse R-CNN.
        target_boxes: `[..., 4]` in the same unit.

    Returns:
        `[...]`, at least float32.

    Raises:
        ValueError: if a tensor is not `[..., 4]` or the shapes do not broadcast.
    """
    require_boxes("boxes", boxes)
    require_boxes("target_boxes", target_boxes)
    require_broadcast("boxes", boxes, "target_boxes", target_boxes)
    return (at_least_float32(boxes) - at_least_float32(target_boxes)).abs().sum(dim=-1)


def paired_giou_loss(boxes: Tensor, target_boxes: Tensor) -> Tensor:
    """1 - GIoU of each pair, not reduced.

    Args:
        boxes: `[..., 4]` xyxy.
        target_boxes: `[..., 4]` xyxy in the same unit.

    Returns:
        `[...]` in [0, 2], at least float32.

    Raises:
        ValueError: if a tensor is not `[..., 4]` or the shapes do not broadcast.
    """
    require_boxes("boxes", boxes)
    require_boxes("target_boxes", target_boxes)
    require_broadcast("boxes", boxes, "target_boxes", target_boxes)
    return 1 - paired_giou(boxes, target_boxes)
