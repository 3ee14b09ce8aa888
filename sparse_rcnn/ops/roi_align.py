"""RoIAlign over a whole feature pyramid as one weighted gather (He et al. 2017, Mask R-CNN, section 3).

The levels of the pyramid are flattened to one table of feature vectors, once per batch. Each bin of each
box is then a weighted sum of rows of that table: sampling_ratio² bilinear samples of 4 corners each, all
from the level that the box's size selects (Lin et al. 2017, FPN, equation 1). No loop over levels and no
data-dependent shape, so that eager, compiled and exported models run the same arithmetic.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from sparse_rcnn.ops.boxes import at_least_float32
from sparse_rcnn.ops.guards import (
    require_boxes,
    require_count,
    require_floating,
    require_list,
    require_number,
)

__all__ = ["Pyramid", "assign_levels", "flatten_pyramid", "pyramid_roi_align"]


class Pyramid(NamedTuple):
    """A feature pyramid as one table of rows.

    Attributes:
        table: `[B, R, C]`, the cells of all levels one after the other, each level row by row.
        geometry: `[B, L, 4]` int32, for each level, finest first: its width and height in cells, its first
            row in the tables of all images one after the other, and its stride in pixels.
    """

    table: Tensor
    geometry: Tensor


def flatten_pyramid(features: list[Tensor]) -> Pyramid:
    """Flattens the levels of a feature pyramid to one table.

    Args:
        features: levels `[B, C, H/4, W/4]`, `[B, C, H/8, W/8]`, ..., finest first. Channels-last
            memory makes the copy cheap.

    Returns:
        The pyramid that `pyramid_roi_align` samples, of the levels' type; where they need gradients
        at least in float32.

    Raises:
        ValueError: if there is no level, or the levels differ in batch size or channels.
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
        # Gradients of many boxes meet in one row: summed in half precision, they are off by up to a tenth.
        rows = at_least_float32(level) if level.requires_grad else level
        tables.append(rows.permute(0, 2, 3, 1).flatten(1, 2))  # [B, H*W, C]
    table = torch.cat(tables, dim=1)
    start = torch.arange(table.shape[0], device=table.device, dtype=torch.int32) * table.shape[1]
    stride = 4
    geometry: list[Tensor] = []
    for level in features:
        # Filled on the device, not a list to transfer; sizes stay symbolic under dynamic shapes.
        height, width = level.shape[2], level.shape[3]
        geometry += [torch.full_like(start, width), torch.full_like(start, height), start]
        geometry.append(torch.full_like(start, stride))
        start = start + height * width
        stride *= 2
    return Pyramid(table, torch.stack(geometry, dim=1).unflatten(1, (len(features), 4)))


def assign_levels(
    boxes: Tensor, num_levels: int, canonical_size: float = 224.0, canonical_level: float = 4.0
) -> Tensor:
    """The pyramid level of each box: floor(4 + log2(sqrt(area) / 224 + 1e-8)), levels counted from 2.

    Args:
        boxes: `[..., 4]` xyxy in pixels.
        num_levels: number of levels; larger and smaller boxes go to the last and the first.
        canonical_size: side in pixels of the box that belongs to `canonical_level`.
        canonical_level: 4 in FPN's counting, where level l has stride 2^l.

    Returns:
        `[...]` int64 in 0..num_levels-1, 0 being the finest level. The published code's float32
        arithmetic, step by step: a box near a limit must fall on the same side.

    Raises:
        ValueError: if boxes are not `[..., 4]`, or a number is not positive.
    """
    require_boxes("boxes", boxes)
    require_count("num_levels", num_levels)
    require_number("canonical_size", canonical_size, 1e-6)
    require_number("canonical_level", canonical_level, -1e6)
    boxes = at_least_float32(boxes)
    size = boxes[..., 2:] - boxes[..., :2]
    area = size[..., 0] * size[..., 1]
    level = canonical_level + torch.log2(area.clamp(min=0).sqrt() / canonical_size + 1e-8)
    # Clamped twice: as a float for infinity, as an integer for NaN, which survives a floating-point clamp.
    # Between the two, what is positive is rounded down.
    return level.clamp(2, num_levels + 1).to(torch.int64).clamp(2, num_levels + 1) - 2


def pyramid_roi_align(pyramid: Pyramid, boxes: Tensor, pool_size: int = 7, sampling_ratio: int = 2) -> Tensor:
    """Pools a grid of features inside each box, from the pyramid level that fits the box's size.

    Equal to torchvision's `roi_align(aligned=True)` on the level of `assign_levels`. As there,
    no gradient reaches the boxes.

    Args:
        pyramid: the flattened levels of `flatten_pyramid`, strides 4, 8, 16, ...
        boxes: `[B, N, 4]` xyxy in pixels of the padded batch. Any box is allowed; what lies outside the
            image reads as 0, and a box that is not finite gives values that are not finite.
        pool_size: bins per side, P.
        sampling_ratio: samples per bin and side.

    Returns:
        `[B, N, P*P, C]` of the table's type, bins row by row.

    Raises:
        ValueError: if the batch sizes of pyramid and boxes differ, or boxes are not `[B, N, 4]`.
    """
    if not torch.jit.is_scripting() and not isinstance(pyramid, Pyramid):
        raise ValueError(f"pyramid must be a Pyramid of flatten_pyramid, got {type(pyramid).__name__}")
    table = pyramid.table
    require_boxes("boxes", boxes)
    if boxes.dim() != 3 or boxes.shape[2] != 4 or boxes.shape[0] != table.shape[0]:
        raise ValueError(f"boxes must be [{table.shape[0]}, N, 4] for this pyramid, got {boxes.shape}")
    require_count("pool_size", pool_size, 1, 256)
    require_count("sampling_ratio", sampling_ratio, 1, 64)
    rows, weights = _bin_rows(pyramid, boxes.detach(), pool_size, sampling_ratio)  # [B, N, P*P, S]
    batch, channels = table.shape[0], table.shape[2]
    weights = weights.to(table.dtype)
    gather = False
    if not torch.jit.is_scripting():
        gather = _must_gather(table)
    if gather:
        gathered = table.flatten(0, 1)[rows]  # [B, N, P*P, S, C]
        return (gathered * weights[..., None]).sum(dim=3)
    pooled = F.embedding_bag(
        rows.flatten(0, 2), table.flatten(0, 1), mode="sum", per_sample_weights=weights.flatten(0, 2)
    )  # [B*N*P*P, C]
    return pooled.view(batch, boxes.shape[1], pool_size * pool_size, channels)


def _must_gather(table: Tensor) -> bool:
    # ONNX has embedding_bag as a loop only. A GPU's compiler fuses gather, product and sum into one kernel.
    # So does a CPU's, but it computes the indices again for each channel: 20 times as slow as embedding_bag.
    return torch.onnx.is_in_onnx_export() or (torch.compiler.is_compiling() and table.device.type != "cpu")


def _bin_rows(pyramid: Pyramid, boxes: Tensor, pool_size: int, sampling_ratio: int) -> tuple[Tensor, Tensor]:
    """Rows of all images' tables and their weights, both `[B, N, P*P, (2*sampling_ratio)²]`."""
    boxes = at_least_float32(boxes)
    levels = assign_levels(boxes, pyramid.geometry.shape[1])  # [B, N]
    geometry = pyramid.geometry.gather(1, levels[..., None].expand(-1, -1, 4))  # [B, N, 4]
    # Half a cell: features sit at cell centers (the aligned kind).
    corners = boxes / geometry[..., 3:] - 0.5  # [B, N, 4]
    cells, weights = _axis_samples(corners, geometry[..., :2], pool_size, sampling_ratio)
    # [B, N, P, 1, S, 1] with [B, N, 1, P, 1, S]: every row of samples with every column of samples.
    width, start = geometry[..., 0, None, None, None, None], geometry[..., 2, None, None, None, None]
    rows = cells[:, :, 1, :, None, :, None] * width + start + cells[:, :, 0, None, :, None, :]
    weights = weights[:, :, 1, :, None, :, None] * weights[:, :, 0, None, :, None, :]
    return rows.flatten(4, 5).flatten(2, 3), weights.flatten(4, 5).flatten(2, 3)


def _axis_samples(
    corners: Tensor, size: Tensor, pool_size: int, sampling_ratio: int
) -> tuple[Tensor, Tensor]:
    """Cells and weights along each axis: x and y at a time, for each operator costs a GPU's host the same.

    Args:
        corners: `[B, N, 4]` xyxy of each box in cells.
        size: `[B, N, 2]` width and height in cells of the box's level.
        pool_size: bins along an axis.
        sampling_ratio: samples per bin.

    Returns:
        cell indices and weights, both `[B, N, 2, P, 2*sampling_ratio]`.
    """
    half = 0.5 / sampling_ratio
    steps = torch.linspace(
        half, pool_size - half, pool_size * sampling_ratio, device=corners.device, dtype=corners.dtype
    )
    low, high = corners[..., :2, None], corners[..., 2:, None]
    position = low + steps * ((high - low) / pool_size)  # [B, N, 2, P*sampling_ratio]
    last = size[..., None] - 1
    # Up to one cell outside, a sample takes the border's value; beyond, it counts as 0.
    inside = (position >= -1.0) & (position <= size[..., None])
    # `inside` is false for NaN and infinity, too: 0 * position keeps them visible in the result.
    weight = torch.where(inside, 1.0 / sampling_ratio, position * 0)
    position = torch.minimum(torch.where(inside, position, 0.0).clamp(min=0.0), last)
    cell = position.to(torch.int32)
    upper_weight = (position - cell) * weight
    cells = torch.stack((cell, torch.minimum(cell + 1, last)), dim=-1)
    weights = torch.stack((weight - upper_weight, upper_weight), dim=-1)
    bins = (pool_size, 2 * sampling_ratio)
    return cells.flatten(-2).unflatten(-1, bins), weights.flatten(-2).unflatten(-1, bins)
