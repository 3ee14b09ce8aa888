"""Batch norm whose statistics and affine parameters never change, as published for pretrained trunks."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torchvision.ops import FrozenBatchNorm2d

__all__ = ["FrozenNorm2d"]


class FrozenNorm2d(FrozenBatchNorm2d):
    """torchvision's layer with the same buffers, in one pass over the activations instead of two.

    And in the activations' type: torchvision's turns bfloat16 into float32, twice the memory from there on.

    Scale and shift are made when buffers are loaded or converted, not in every call: on a GPU, one operator
    is launched in place of six. A call makes them itself if a buffer is not what they were made of (written
    to, or replaced, as functional calls do), and inside of graphs, whose compilers fuse them.
    """

    __jit_ignored_attributes__ = ("_prepared", "_made_of")

    def __init__(self, num_features: int, eps: float = 1e-5) -> None:
        super().__init__(num_features, eps)
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
        # Normal tensors even in inference mode: training may use them later.
        with torch.inference_mode(False), torch.no_grad():
            self._prepared = self._scale_and_shift()
        buffers = self._buffers.values()
        # Each with its count of writes; inference tensors count none.
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

    def _load_from_state_dict(self, *args: Any) -> None:
        super()._load_from_state_dict(*args)
        self._prepare()

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Of a copy or a file: its buffers are other ones."""
        super().__setstate__(state)
        self._prepare()
