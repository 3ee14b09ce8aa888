"""Layer norm that keeps half precision under autocast."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["LayerNorm"]


class LayerNorm(nn.LayerNorm):
    """PyTorch's layer with the same parameters, in the type of its input.

    On a GPU, autocast turns the input of PyTorch's own into float32, gives float32, and keeps both for the
    backward pass: three times the memory of what it normalises. Mean and variance are in float32 in either;
    the result is rounded to half precision, as the CPU's autocast has it.
    """

    def forward(self, x: Tensor) -> Tensor:
        """`[..., C]` normalised over the last dimension."""
        if not torch.jit.is_scripting():
            half = x.dtype in (torch.bfloat16, torch.float16)
            if half and x.device.type != "cpu":
                with torch.autocast(x.device.type, enabled=False):
                    # A GPU's kernel takes parameters of the input's type only.
                    weight, bias = self.weight.to(x.dtype), self.bias.to(x.dtype)
                    return F.layer_norm(x, self.normalized_shape, weight, bias, self.eps)
        return F.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)
