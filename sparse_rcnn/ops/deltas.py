"""Box refinement by deltas (R-CNN, Girshick et al. 2014, appendix C).

    cx' = cx + w dx / wx      w' = w exp(dw / ww)      (the same for y and h)

Sparse R-CNN uses the weights (2, 2, 1, 1) in every stage.
"""

import torch
from torch import Tensor

from sparse_rcnn.ops.argument_checks import require_boxes, require_broadcast, require_list, require_number
from sparse_rcnn.ops.boxes import at_least_float32, xyxy_to_cxcywh

__all__ = ["SCALE_CLAMP", "apply_deltas", "get_deltas"]

# ln(100000 / 16), as in the published code: the upper bound of dw and dh. Without it, exp could overflow.
SCALE_CLAMP = 8.740336742730447


def apply_deltas(
    deltas: Tensor,
    boxes: Tensor,
    weights: tuple[float, float, float, float] = (2.0, 2.0, 1.0, 1.0),
    scale_clamp: float = SCALE_CLAMP,
) -> Tensor:
    """Moves and scales boxes by predicted deltas.

    Args:
        deltas: `[..., 4]` (dx, dy, dw, dh), weighted and relative to the box size.
        boxes: `[..., 4]` xyxy in pixels. Broadcasts with `deltas`.
        weights: The divisors of the four deltas.
        scale_clamp: The upper bound of dw and dh after the division.

    Returns:
        `[..., 4]` xyxy in pixels, at least float32, not clipped to the image.

    Raises:
        ValueError: If a shape does not fit, a weight is not positive or `scale_clamp` is no number.

    Example:
        >>> apply_deltas(torch.tensor([0.2, 0.0, 0.0, 0.0]), torch.tensor([10.0, 10.0, 30.0, 30.0]))
        tensor([12., 10., 32., 30.])
    """
    require_boxes("deltas", deltas)
    require_boxes("boxes", boxes)
    require_broadcast("deltas", deltas, "boxes", boxes)
    _require_weights(weights)
    require_number("scale_clamp", scale_clamp, -88.0, 88.0)  # exp(89) overflows float32
    deltas, boxes = at_least_float32(deltas), at_least_float32(boxes)
    # Both axes at once: on a GPU, starting an operator takes longer than its arithmetic.
    low, high = boxes[..., :2], boxes[..., 2:]
    center, size = 0.5 * (low + high), high - low
    shift = _divide(deltas[..., :2], weights[0], weights[1])
    scale = _divide(deltas[..., 2:], weights[2], weights[3])
    new_center = shift * size + center
    half = torch.exp(scale.clamp(max=scale_clamp)) * size * 0.5
    return torch.cat((new_center - half, new_center + half), dim=-1)


def _divide(pair: Tensor, first: float, second: float) -> Tensor:
    if first == second:
        return pair / first
    return torch.stack((pair[..., 0] / first, pair[..., 1] / second), dim=-1)


def get_deltas(
    boxes: Tensor,
    target_boxes: Tensor,
    weights: tuple[float, float, float, float] = (2.0, 2.0, 1.0, 1.0),
) -> Tensor:
    """The deltas that move `boxes` to `target_boxes`: the inverse of `apply_deltas`.

    Args:
        boxes: `[..., 4]` xyxy in pixels, of positive width and height.
        target_boxes: `[..., 4]` xyxy in pixels, of positive width and height.
        weights: The multipliers of the four deltas.

    Returns:
        `[..., 4]` (dx, dy, dw, dh). Infinite or NaN where a box is empty.

    Raises:
        ValueError: If a shape does not fit, or a weight is not positive.

    Example:
        >>> get_deltas(torch.tensor([10.0, 10.0, 30.0, 30.0]), torch.tensor([20.0, 10.0, 40.0, 30.0]))
        tensor([1., 0., 0., 0.])
    """
    require_boxes("boxes", boxes)
    require_boxes("target_boxes", target_boxes)
    require_broadcast("boxes", boxes, "target_boxes", target_boxes)
    _require_weights(weights)
    cx, cy, width, height = xyxy_to_cxcywh(at_least_float32(boxes)).unbind(-1)
    target_cx, target_cy, target_width, target_height = xyxy_to_cxcywh(at_least_float32(target_boxes)).unbind(
        -1
    )
    return torch.stack(
        (
            weights[0] * (target_cx - cx) / width,
            weights[1] * (target_cy - cy) / height,
            weights[2] * torch.log(target_width / width),
            weights[3] * torch.log(target_height / height),
        ),
        dim=-1,
    )


def _require_weights(weights: tuple[float, float, float, float]) -> None:
    if not torch.jit.is_scripting():
        require_list("weights", weights, 4)
    require_number("weights[0]", weights[0], 1e-6)
    require_number("weights[1]", weights[1], 1e-6)
    require_number("weights[2]", weights[2], 1e-6)
    require_number("weights[3]", weights[3], 1e-6)
