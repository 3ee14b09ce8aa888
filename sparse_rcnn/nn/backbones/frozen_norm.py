"""Batch norm with fixed statistics and affine parameters, as published for pretrained trunks."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["FrozenNorm2d"]


class FrozenNorm2d(nn.Module):
    """torchvision's `FrozenBatchNorm2d` with the same buffers. It passes over activations once, not twice.

    It keeps the type of the activations. torchvision's layer turns bfloat16 into float32, and every layer
    after it then needs twice the memory.

    Scale and shift are computed when buffers are loaded or converted. A call then starts one operator on a
    GPU instead of six. A call computes them itself in two cases: if a buffer has changed since (for example
    in a functional call), and inside a graph, where the compiler fuses the operators.
    """

    __jit_ignored_attributes__ = ("_prepared", "_made_of")

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, num_features: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.register_buffer("weight", torch.ones(num_features))
        self.register_buffer("bias", torch.zeros(num_features))
        self.register_buffer("running_mean", torch.zeros(num_features))
        self.register_buffer("running_var", torch.ones(num_features))
        self._prepare()

    def forward(self, x: Tensor) -> Tensor:
        """`[B, C, H, W]` scaled and shifted per channel."""
        if torch.jit.is_scripting() or torch.compiler.is_compiling():
            factors = self._scale_and_shift()
        else:
            factors = self._prepared if self._is_prepared() else self._scale_and_shift()
        factors = factors.to(x.dtype)
        return torch.addcmul(factors[1], x, factors[0])

    def _scale_and_shift(self) -> Tensor:
        """`[2, C, 1, 1]`."""
        scale = self.weight * (self.running_var + self.eps).rsqrt()
        shift = self.bias - self.running_mean * scale
        return torch.stack((scale, shift))[..., None, None]

    @torch.jit.unused
    def _prepare(self) -> None:
        # Make normal tensors even in inference mode, since training may use them later.
        with torch.inference_mode(False), torch.no_grad():
            on_meta = self.weight.is_meta  # whose arithmetic imports PyTorch's compiler, which takes seconds
            self._prepared = (
                self.weight.new_empty(2, len(self.weight), 1, 1) if on_meta else self._scale_and_shift()
            )
        buffers = self._buffers.values()
        # Each buffer and its count of writes. Inference tensors have no count.
        self._made_of = [(b, -1 if b.is_inference() else b._version) for b in buffers if b is not None]

    @torch.jit.unused
    def _is_prepared(self) -> bool:
        return all(
            buffer is made_of and not made_of.is_inference() and made_of._version == version
            for buffer, (made_of, version) in zip(self._buffers.values(), self._made_of, strict=True)
        )

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> "FrozenNorm2d":
        super()._apply(fn, recurse)
        self._prepare()
        return self

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        state_dict.pop(f"{prefix}num_batches_tracked", None)  # of a norm that trained
        super()._load_from_state_dict(state_dict, prefix, *args)
        self._prepare()

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Prepares scale and shift again: a copy, or a layer from a file, has new buffers."""
        super().__setstate__(state)
        self._prepare()

    def extra_repr(self) -> str:
        """What `repr` shows."""
        return f"{len(self.weight)}, eps={self.eps}"
