"""The positions of a level: their centres, the boxes around them, and the peaks of their scores."""

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["boxes_around", "cell_centers", "score_peaks"]


def score_peaks(scores: Tensor) -> Tensor:
    """Where a score is the largest of its 3 × 3 neighbours. Among equal neighbours, only the first counts.

    Args:
        scores: `[B, H, W]`.

    Returns:
        `[B, H, W]` bool. No two peaks are neighbours.

    Example:
        >>> score_peaks(torch.tensor([[[0.1, 0.9, 0.9, 0.2, 0.3]]]))
        tensor([[[False,  True, False, False,  True]]])
    """
    height, width = scores.shape[1], scores.shape[2]
    indices = F.max_pool2d_with_indices(scores[:, None], [3, 3], [1, 1], [1, 1])[1][:, 0]  # [B, H, W]
    own = torch.arange(height * width, device=scores.device).view(height, width)
    return indices == own


def boxes_around(
    points: Tensor, log_sides: Tensor, stride: float, reach: float = 4.0, limit: float = 6.0
) -> Tensor:
    """Boxes from the distances of their sides to a point.

    Args:
        points: `[P, 2]` (x, y) in pixels.
        log_sides: `[B, P, 4]` logarithms of the distances to left, top, right and bottom.
        stride: The stride of the level in pixels.
        reach: The distance for a logarithm of 0, in strides.
        limit: The largest logarithm, so that no box is infinite.

    Returns:
        `[B, P, 4]` xyxy in pixels.
    """
    sides = log_sides.clamp(max=limit).exp() * (reach * stride)
    left_top, right_bottom = sides.chunk(2, dim=2)
    return torch.cat((points - left_top, points + right_bottom), dim=2)


def cell_centers(height: int, width: int, stride: float, like: Tensor) -> Tensor:
    """The centre of each cell of a level, row by row.

    Args:
        height: Height of the level in cells.
        width: Width of the level in cells.
        stride: Side of a cell in pixels.
        like: A tensor of the wanted type and device.

    Returns:
        `[height * width, 2]` (x, y) in pixels.
    """
    y = (torch.arange(height, dtype=like.dtype, device=like.device) + 0.5) * stride
    x = (torch.arange(width, dtype=like.dtype, device=like.device) + 0.5) * stride
    rows = y[:, None].expand(height, width)
    columns = x[None, :].expand(height, width)
    return torch.stack((columns, rows), dim=2).flatten(0, 1)
