"""Sine positional encoding of a feature pyramid (Carion et al. 2020, DETR, appendix A.4).

angle_i = 2 pi p / T^(i / F)      i = 0 .. F - 1, F = C / 4, p is the position divided by the image's side

The first half of the channels is for the row: sin and cos of each of its F angles. The second half is the
same for the column.
"""

import math

import torch
from torch import Tensor

from sparse_rcnn.ops.argument_checks import require_floating, require_list, require_number, require_sizes

__all__ = ["add_positional_encoding"]


def add_positional_encoding(
    levels: list[Tensor], image_sizes: Tensor, temperature: float = 10000.0
) -> list[Tensor]:
    """Adds an encoding of its position to every cell. Only an ablation uses it (paper, Table 10).

    Args:
        levels: Feature pyramid `[B, C, H/4, W/4]`, `[B, C, H/8, W/8]`, ... C is a multiple of 4.
        image_sizes: `[B, 2]` true (height, width) of each image in pixels.
        temperature: T, as in DETR.

    Returns:
        Levels of the same shapes and types.

    Raises:
        ValueError: If C is no multiple of 4, a level is no floating-point tensor `[B, C, H, W]`, or an image
            size or the temperature is not positive.

    Example:
        >>> levels = add_positional_encoding([torch.zeros(1, 8, 16, 16)], torch.tensor([[64, 64]]))
        >>> levels[0].shape
        torch.Size([1, 8, 16, 16])
    """
    if not torch.jit.is_scripting():
        require_list("levels", levels)
    require_sizes("image_sizes", image_sizes)
    require_number("temperature", temperature, 1e-6, 1e30)
    encoded: list[Tensor] = []
    stride = 4.0
    for level in levels:
        require_floating("levels", level)
        if level.dim() != 4 or list(image_sizes.shape) != [level.shape[0], 2]:
            raise ValueError(
                "levels must be [B, C, H, W] and image_sizes [B, 2], "
                f"got {level.shape} and {image_sizes.shape}"
            )
        channels, height, width = level.shape[1], level.shape[2], level.shape[3]
        if channels % 4 != 0:
            raise ValueError(f"a positional encoding needs a multiple of 4 channels, got {channels}")
        rows = (torch.arange(height, device=level.device) + 0.5) * stride / image_sizes[:, :1]  # [B, H]
        columns = (torch.arange(width, device=level.device) + 0.5) * stride / image_sizes[:, 1:]  # [B, W]
        encoding = torch.cat(
            (
                _encode(rows, channels // 4, temperature)[:, :, None].expand(-1, -1, width, -1),
                _encode(columns, channels // 4, temperature)[:, None].expand(-1, height, -1, -1),
            ),
            dim=-1,
        )  # [B, H, W, C]
        encoded.append(level + encoding.permute(0, 3, 1, 2).to(level.dtype))
        stride *= 2.0
    return encoded


def _encode(positions: Tensor, num_frequencies: int, temperature: float) -> Tensor:
    """Encodes `[B, S]` positions, divided by the image's side, as `[B, S, 2 F]`."""
    exponent = torch.arange(num_frequencies, device=positions.device) / num_frequencies
    angles = 2 * math.pi * positions[..., None] / temperature**exponent  # [B, S, F]
    return torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(-2)
