"""Box losses of pairs of boxes: L1 and generalized IoU (DETR, Carion et al. 2020, section 3.1)."""

from torch import Tensor

from sparse_rcnn.ops.argument_checks import require_boxes, require_broadcast
from sparse_rcnn.ops.boxes import at_least_float32
from sparse_rcnn.ops.iou import paired_giou

__all__ = ["paired_giou_loss", "paired_l1_loss"]


def paired_l1_loss(boxes: Tensor, target_boxes: Tensor) -> Tensor:
    """Sum of the four absolute differences of each pair, not reduced over pairs.

    Args:
        boxes: `[..., 4]`. Sparse R-CNN divides them by the image size.
        target_boxes: `[..., 4]` in the same unit.

    Returns:
        `[...]`, at least float32.

    Raises:
        ValueError: If a tensor is not `[..., 4]` or the shapes do not broadcast.

    Example:
        >>> paired_l1_loss(torch.tensor([0.0, 0.0, 1.0, 1.0]), torch.tensor([0.5, 0.0, 1.0, 0.75]))
        tensor(0.7500)
    """
    require_boxes("boxes", boxes)
    require_boxes("target_boxes", target_boxes)
    require_broadcast("boxes", boxes, "target_boxes", target_boxes)
    return (at_least_float32(boxes) - at_least_float32(target_boxes)).abs().sum(dim=-1)


def paired_giou_loss(boxes: Tensor, target_boxes: Tensor) -> Tensor:
    """1 - GIoU of each pair, not reduced over pairs.

    Args:
        boxes: `[..., 4]` xyxy in any unit.
        target_boxes: `[..., 4]` xyxy in the same unit.

    Returns:
        `[...]` in [0, 2], at least float32.

    Raises:
        ValueError: If a tensor is not `[..., 4]` or the shapes do not broadcast.

    Example:
        >>> paired_giou_loss(torch.tensor([0.0, 0.0, 1.0, 1.0]), torch.tensor([3.0, 0.0, 4.0, 1.0]))
        tensor(1.5000)
    """
    require_boxes("boxes", boxes)
    require_boxes("target_boxes", target_boxes)
    require_broadcast("boxes", boxes, "target_boxes", target_boxes)
    return 1 - paired_giou(boxes, target_boxes)
