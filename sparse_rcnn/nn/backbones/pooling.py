"""The stem's max pooling, written so that PyTorch 2.11 compiles it once for all image sizes."""

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["ASKS_FOR_EVEN_SIZES", "pool_of_slices"]

# PyTorch 2.11 asks whether the input size of max_pool2d is even. It then compiles a graph for each answer.
ASKS_FOR_EVEN_SIZES = tuple(map(int, torch.__version__.split(".")[:2])) < (2, 12)


def pool_of_slices(x: Tensor) -> Tensor:
    """`max_pool2d(x, 3, stride=2, padding=1)` as maxima of shifted slices. `x` must not be negative."""
    x = F.pad(x, (1, 1, 1, 1))
    x = torch.maximum(torch.maximum(x[:, :, :-2:2], x[:, :, 1:-1:2]), x[:, :, 2::2])
    return torch.maximum(torch.maximum(x[..., :-2:2], x[..., 1:-1:2]), x[..., 2::2])
