"""The feature pyramid on top of a trunk (Lin et al. 2017, FPN, section 3)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["FeaturePyramid"]


class FeaturePyramid(nn.Module):
    """torchvision's `FeaturePyramidNetwork`, with the same parameters, for lists of levels.

    It keeps half precision in autocast.

    Args:
        in_channels: Channels of the trunk's levels, finest first.
        out_channels: Channels of every level of the pyramid, C.
    """

    def __init__(self, in_channels: list[int], out_channels: int) -> None:
        super().__init__()
        self.inner_blocks, self.layer_blocks = nn.ModuleList(), nn.ModuleList()
        for channels in in_channels:
            # In sequences of one, as torchvision names them.
            self.inner_blocks.append(nn.Sequential(nn.Conv2d(channels, out_channels, 1)))
            self.layer_blocks.append(nn.Sequential(nn.Conv2d(out_channels, out_channels, 3, padding=1)))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_uniform_(module.weight, a=1)
                nn.init.constant_(module.bias, 0)  # type: ignore[arg-type]

    def forward(self, levels: list[Tensor]) -> list[Tensor]:
        """The trunk's levels `[B, C_l, H_l, W_l]`, finest first, to levels `[B, C, H_l, W_l]`."""
        merged: list[Tensor] = []
        for index, block in enumerate(self.inner_blocks):
            merged.append(block(levels[index]))
        for index in range(len(merged) - 2, -1, -1):
            height, width = merged[index].shape[2], merged[index].shape[3]
            merged[index] = merged[index] + _enlarge(merged[index + 1], height, width)
        pyramid: list[Tensor] = []
        for index, block in enumerate(self.layer_blocks):
            pyramid.append(block(merged[index]))
        return pyramid


@torch.fx.wrap  # a symbolic trace takes it as one step
def _enlarge(level: Tensor, height: int, width: int) -> Tensor:
    """Copies the nearest cells, and keeps the type. On a GPU, autocast would turn it into float32."""
    if not torch.jit.is_scripting():
        device = level.device.type
        under_autocast = device != "meta" and torch.is_autocast_enabled(device)  # there is none on meta
        if under_autocast:
            with torch.autocast(device, enabled=False):
                return F.interpolate(level, size=(height, width), mode="nearest")
    return F.interpolate(level, size=(height, width), mode="nearest")
