"""Batch norm whose statistics and affine parameters never change, as published for pretrained trunks."""

import torch
from torch import Tensor
from torchvision.ops import FrozenBatchNorm2d


class FrozenNorm2d(FrozenBatchNorm2d):
    """torchvision's layer with the same buffers, in one pass over the activations instead of two.

    And in the activations' type: torchvision's turns bfloat16 into float32, twice the memory from there on.
    """

    def forward(self, x: Tensor) -> Tensor:
        """``[B, C, H, W]`` scaled and shifted per channel."""
        scale = self.weight * (self.running_var + self.eps).rsqrt()
        shift = self.bias - self.running_mean * scale
        return torch.addcmul(shift.to(x.dtype)[:, None, None], x, scale.to(x.dtype)[:, None, None])
