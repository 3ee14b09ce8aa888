"""The feature pyramid on top of a trunk (Lin et al. 2017, FPN, section 3)."""

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import FeaturePyramidNetwork

__all__ = ["FeaturePyramid"]


class FeaturePyramid(FeaturePyramidNetwork):
    """torchvision's layer with the same parameters. It takes lists, and keeps half precision in autocast."""

    def forward(self, levels: list[Tensor]) -> list[Tensor]:
        """The trunk's levels `[B, C_l, H_l, W_l]`, finest first, to levels `[B, C, H_l, W_l]`."""
        merged = self.get_result_from_inner_blocks(levels[-1], -1)
        pyramid = [self.get_result_from_layer_blocks(merged, -1)]
        for index in range(len(levels) - 2, -1, -1):
            lateral = self.get_result_from_inner_blocks(levels[index], index)
            merged = lateral + _enlarge(merged, lateral.shape[2], lateral.shape[3])
            pyramid.insert(0, self.get_result_from_layer_blocks(merged, index))
        return pyramid


def _enlarge(level: Tensor, height: int, width: int) -> Tensor:
    """Copies the nearest cells, and keeps the type. On a GPU, autocast would turn it into float32."""
    if not torch.jit.is_scripting():
        under_autocast = torch.is_autocast_enabled(level.device.type)
        if under_autocast:
            with torch.autocast(level.device.type, enabled=False):
                return F.interpolate(level, size=(height, width), mode="nearest")
    return F.interpolate(level, size=(height, width), mode="nearest")
