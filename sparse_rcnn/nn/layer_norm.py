"""Layer norm that keeps half precision under autocast."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["LayerNorm"]


class LayerNorm(nn.LayerNorm):
    """PyTorch's layer with the same parameters. The result has the type of the input.

    On a GPU under autocast, PyTorch's layer converts its input to float32, returns float32, and keeps both
    for the backward pass: three times the memory. Both layers compute mean and variance in float32. This one
    rounds the result to half precision, as PyTorch's layer does on a CPU.
    """

    def forward(self, x: Tensor) -> Tensor:
        """`[..., C]` normalised over the last dimension."""
        if not torch.jit.is_scripting():
            half = x.dtype in (torch.bfloat16, torch.float16)
            if half and x.device.type not in ("cpu", "meta"):
                with torch.autocast(x.device.type, enabled=False):
                    # The GPU kernel takes only parameters of the input's type.
                    weight, bias = self.weight.to(x.dtype), self.bias.to(x.dtype)
                    return F.layer_norm(x, self.normalized_shape, weight, bias, self.eps)
        return F.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)
