"""A feature pyramid as one table of feature vectors, made once per batch: all stages pool from it."""

from typing import NamedTuple

import torch
from torch import Tensor

from sparse_rcnn.ops.argument_checks import require_floating, require_list
from sparse_rcnn.ops.boxes import at_least_float32

__all__ = ["Pyramid", "flatten_pyramid"]


class Pyramid(NamedTuple):
    """A feature pyramid as one table of rows.

    Attributes:
        table: `[B, R, C]`, the cells of all levels one after the other. Each level is stored row by row.
        geometry: `[B, L, 4]` int32, one entry per level, finest first: its width in cells, its height in
            cells, its first row, and its stride in pixels. Rows are counted through the tables of all images.
    """

    table: Tensor
    geometry: Tensor


def flatten_pyramid(features: list[Tensor]) -> Pyramid:
    """Flattens the levels of a feature pyramid to one table.

    Args:
        features: Levels `[B, C, H/4, W/4]`, `[B, C, H/8, W/8]`, ..., finest first. The copy is fast if they
            are in channels-last memory format.

    Returns:
        The pyramid for `pyramid_roi_align`. It has the type of the levels. Levels that need gradients become
        at least float32.

    Raises:
        ValueError: If there is no level, or the levels differ in batch size or channels.

    Example:
        >>> flatten_pyramid([torch.zeros(1, 8, 16, 16), torch.zeros(1, 8, 8, 8)]).table.shape
        torch.Size([1, 320, 8])
    """
    if not torch.jit.is_scripting():
        require_list("features", features)
    if len(features) == 0:
        raise ValueError("features must have at least one level, got none")
    tables: list[Tensor] = []
    for level in features:
        require_floating("features", level)
        if level.dim() != 4 or level.shape[:2] != features[0].shape[:2]:
            raise ValueError(
                "every level of features must be [B, C, H, W] with the B and C of the first, "
                f"{features[0].shape}, got {level.shape}"
            )
        # One row gets the gradients of many boxes. In half precision, their sum is wrong by up to a tenth.
        rows = at_least_float32(level) if level.requires_grad else level
        tables.append(rows.permute(0, 2, 3, 1).flatten(1, 2))  # [B, H*W, C]
    table = torch.cat(tables, dim=1)
    start = torch.arange(table.shape[0], device=table.device, dtype=torch.int32) * table.shape[1]
    stride = 4
    geometry: list[Tensor] = []
    for level in features:
        # Filled on the device: a list would need a transfer. Sizes stay symbolic under dynamic shapes.
        height, width = level.shape[2], level.shape[3]
        geometry += [torch.full_like(start, width), torch.full_like(start, height), start]
        geometry.append(torch.full_like(start, stride))
        start = start + height * width
        stride *= 2
    return Pyramid(table, torch.stack(geometry, dim=1).unflatten(1, (len(features), 4)))
