"""The stem's max pooling in a form that PyTorch 2.11 compiles once for all sizes."""

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["ASKS_FOR_EVEN_SIZES", "pool_of_slices"]

# Its rule for the shape of max_pool2d asks whether the size is even, and so makes a graph of each answer.
ASKS_FOR_EVEN_SIZES = tuple(map(int, torch.__version__.split(".")[:2])) < (2, 12)


def pool_of_slices(x: Tensor) -> Tensor:
    """`max_pool2d(x, 3, stride=2, padding=1)` of what is not negative, as maxima of shifted slices."""
    x = F.pad(x, (1, 1, 1, 1))
    x = torch.maximum(torch.maximum(x[:, :, :-2:2], x[:, :, 1:-1:2]), x[:, :, 2::2])
    return torch.maximum(torch.maximum(x[..., :-2:2], x[..., 1:-1:2]), x[..., 2::2])
