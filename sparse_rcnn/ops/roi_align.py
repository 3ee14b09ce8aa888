"""RoIAlign over a whole feature pyramid as one weighted gather (He et al. 2017, Mask R-CNN, section 3).

Each bin of each box is a weighted sum of rows of the pyramid's table. A bin has sampling_ratio² bilinear
samples, and each sample reads 4 cells. All cells of a box lie on the level that its size selects (Lin et al.
2017, FPN, equation 1). There is no loop over levels, and no shape depends on data. So eager, compiled and
exported models run the same arithmetic.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from sparse_rcnn.ops.argument_checks import require_boxes, require_count, require_number
from sparse_rcnn.ops.boxes import at_least_float32
from sparse_rcnn.ops.pyramid import Pyramid

__all__ = ["assign_levels", "pyramid_roi_align"]


def assign_levels(
    boxes: Tensor, num_levels: int, canonical_size: float = 224.0, canonical_level: float = 4.0
) -> Tensor:
    """The pyramid level of each box (Lin et al. 2017, FPN, equation 1).

        level = floor(4 + log2(sqrt(area) / 224 + 1e-8)), where FPN's first level is number 2

    The steps in float32 are those of the published code, so a box near a limit gets the same level.

    Args:
        boxes: `[..., 4]` xyxy in pixels.
        num_levels: The number of levels. Smaller boxes go to the first level, larger ones to the last.
        canonical_size: The side in pixels of a box that belongs to `canonical_level`.
        canonical_level: 4 in FPN's numbers, where level l has stride 2^l.

    Returns:
        `[...]` int64 in 0..num_levels-1. 0 is the finest level.

    Raises:
        ValueError: If boxes are not `[..., 4]`, or a number is not positive.

    Example:
        >>> assign_levels(torch.tensor([[0.0, 0.0, 32.0, 32.0], [0.0, 0.0, 224.0, 224.0]]), num_levels=4)
        tensor([0, 2])
    """
    require_boxes("boxes", boxes)
    require_count("num_levels", num_levels)
    require_number("canonical_size", canonical_size, 1e-6)
    require_number("canonical_level", canonical_level, -1e6)
    boxes = at_least_float32(boxes)
    size = boxes[..., 2:] - boxes[..., :2]
    area = size[..., 0] * size[..., 1]
    level = canonical_level + torch.log2(area.clamp(min=0).sqrt() / canonical_size + 1e-8)
    # The first clamp is for infinity. The second is for NaN, which a clamp of floats leaves unchanged.
    # The conversion between them rounds positive numbers down.
    return level.clamp(2, num_levels + 1).to(torch.int64).clamp(2, num_levels + 1) - 2


def pyramid_roi_align(pyramid: Pyramid, boxes: Tensor, pool_size: int = 7, sampling_ratio: int = 2) -> Tensor:
    """Pools a grid of features inside each box, from the pyramid level that fits the box's size.

    Equal to torchvision's `roi_align(aligned=True)` on the level of `assign_levels`. As in torchvision, boxes
    get no gradient.

    Args:
        pyramid: The levels from `flatten_pyramid`, of strides 4, 8, 16, ...
        boxes: `[B, N, 4]` xyxy in pixels of the padded batch. Any box is allowed. Outside of the image,
            features are 0. A box that is not finite gives values that are not finite.
        pool_size: Bins per side, P.
        sampling_ratio: Samples per bin and side.

    Returns:
        `[B, N, P*P, C]` of the table's type, bins row by row.

    Raises:
        ValueError: If the batch sizes of pyramid and boxes differ, or boxes are not `[B, N, 4]`.

    Example:
        >>> from sparse_rcnn.ops import flatten_pyramid
        >>> pyramid = flatten_pyramid([torch.zeros(1, 8, 16, 16), torch.zeros(1, 8, 8, 8)])
        >>> pyramid_roi_align(pyramid, torch.tensor([[[0.0, 0.0, 32.0, 32.0]]]), pool_size=7).shape
        torch.Size([1, 1, 49, 8])
    """
    if not torch.jit.is_scripting() and not isinstance(pyramid, Pyramid):
        raise ValueError(f"pyramid must come from flatten_pyramid, got {type(pyramid).__name__}")
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
        gathered = table.flatten(0, 1)[rows.long()]  # [B, N, P*P, S, C]; ONNX takes no int32 here
        return (gathered * weights[..., None]).sum(dim=3)
    pooled = F.embedding_bag(
        rows.flatten(0, 2), table.flatten(0, 1), mode="sum", per_sample_weights=weights.flatten(0, 2)
    )  # [B*N*P*P, C]
    return pooled.view(batch, boxes.shape[1], pool_size * pool_size, channels)


def _must_gather(table: Tensor) -> bool:
    # In ONNX, embedding_bag becomes a loop. On a GPU, the compiler fuses gather, product and sum into one
    # kernel. On a CPU, it computes the indices again for each channel: 20 times slower than embedding_bag.
    return torch.onnx.is_in_onnx_export() or (torch.compiler.is_compiling() and table.device.type != "cpu")


def _bin_rows(pyramid: Pyramid, boxes: Tensor, pool_size: int, sampling_ratio: int) -> tuple[Tensor, Tensor]:
    """Rows of the tables of all images, and their weights: both `[B, N, P*P, (2*sampling_ratio)²]`."""
    boxes = at_least_float32(boxes)
    levels = assign_levels(boxes, pyramid.geometry.shape[1])  # [B, N]
    geometry = pyramid.geometry.gather(1, levels[..., None].expand(-1, -1, 4))  # [B, N, 4]
    # Half a cell less, since features belong to the centers of cells (aligned=True).
    corners = boxes / geometry[..., 3:] - 0.5  # [B, N, 4]
    cells, weights = _axis_samples(corners, geometry[..., :2], pool_size, sampling_ratio)
    # [B, N, P, 1, S, 1] with [B, N, 1, P, 1, S]: every row of samples meets every column of samples.
    width, start = geometry[..., 0, None, None, None, None], geometry[..., 2, None, None, None, None]
    rows = cells[:, :, 1, :, None, :, None] * width + start + cells[:, :, 0, None, :, None, :]
    weights = weights[:, :, 1, :, None, :, None] * weights[:, :, 0, None, :, None, :]
    return rows.flatten(4, 5).flatten(2, 3), weights.flatten(4, 5).flatten(2, 3)


def _axis_samples(
    corners: Tensor, size: Tensor, pool_size: int, sampling_ratio: int
) -> tuple[Tensor, Tensor]:
    """Cells and weights along each axis. Both axes are computed at once: fewer operators to start on a GPU.

    Args:
        corners: `[B, N, 4]` xyxy of each box in cells.
        size: `[B, N, 2]` width and height in cells of the box's level.
        pool_size: Bins along an axis.
        sampling_ratio: Samples per bin.

    Returns:
        Cell indices and weights, both `[B, N, 2, P, 2*sampling_ratio]`.
    """
    half = 0.5 / sampling_ratio
    steps = torch.linspace(
        half, pool_size - half, pool_size * sampling_ratio, device=corners.device, dtype=corners.dtype
    )
    low, high = corners[..., :2, None], corners[..., 2:, None]
    position = low + steps * ((high - low) / pool_size)  # [B, N, 2, P*sampling_ratio]
    last = size[..., None] - 1
    # A sample up to one cell outside has the value of the border. Farther outside, its value is 0.
    inside = (position >= -1.0) & (position <= size[..., None])
    # `inside` is False for NaN and infinity. There 0 * position is NaN, so the result shows them.
    weight = torch.where(inside, 1.0 / sampling_ratio, position * 0)
    position = torch.minimum(torch.where(inside, position, 0.0).clamp(min=0.0), last)
    cell = position.to(torch.int32)
    upper_weight = (position - cell) * weight
    cells = torch.stack((cell, torch.minimum(cell + 1, last)), dim=-1)
    weights = torch.stack((weight - upper_weight, upper_weight), dim=-1)
    bins = (pool_size, 2 * sampling_ratio)
    return cells.flatten(-2).unflatten(-1, bins), weights.flatten(-2).unflatten(-1, bins)
