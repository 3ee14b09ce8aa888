"""Backbones: a trunk and a feature pyramid (Lin et al. 2017, FPN) of strides 4, 8, 16, 32."""

from collections.abc import Callable

from torch import Tensor, nn

from sparse_rcnn.nn.backbones.contract import STRIDES
from sparse_rcnn.nn.backbones.feature_pyramid import FeaturePyramid
from sparse_rcnn.nn.backbones.frozen_norm import FrozenNorm2d
from sparse_rcnn.nn.backbones.mobilenet_v2 import MobileNetV2Trunk
from sparse_rcnn.nn.backbones.resnet import RESNETS, ResNetTrunk

__all__ = ["BACKBONES", "NORMS", "Backbone", "norm_layer"]

BACKBONES = (*RESNETS, "mobilenet_v2")
NORMS = ("frozen", "batch", "group")


def norm_layer(norm: str) -> Callable[[int], nn.Module]:
    """The constructor of a normalisation layer, by its name.

    Args:
        norm: "frozen", "batch" or "group". "frozen" is batch norm with fixed statistics and parameters, as
            published, for pretrained trunks. "group" does not depend on the batch size (Wu & He 2018).

    Returns:
        A function from the number of channels to the layer.

    Raises:
        ValueError: If the name is unknown.
    """
    if norm == "frozen":
        return FrozenNorm2d
    if norm == "batch":
        return nn.BatchNorm2d
    if norm == "group":
        # 32 groups, as published. MobileNetV2's widths are multiples of 8 only.
        return lambda channels: nn.GroupNorm(32 if channels % 32 == 0 else 8, channels)
    raise ValueError(f"norm must be one of {NORMS}, got {norm!r}")


class Backbone(nn.Module):
    """A trunk and its feature pyramid.

    Args:
        name: One of `BACKBONES`.
        norm: A name for `norm_layer`. With "frozen", the stem and the first residual stage do not train
            either, as published. They need pretrained weights.
        out_channels: Channels of every level, C.

    Attributes:
        channels: C.
        strides: (4, 8, 16, 32).

    Raises:
        ValueError: If the name or the norm is unknown.

    Example:
        >>> backbone = Backbone("resnet18", norm="group", out_channels=64)
        >>> [tuple(level.shape) for level in backbone(torch.zeros(1, 3, 64, 64))]
        [(1, 64, 16, 16), (1, 64, 8, 8), (1, 64, 4, 4), (1, 64, 2, 2)]
    """

    def __init__(self, name: str, norm: str = "frozen", out_channels: int = 256) -> None:
        super().__init__()
        if name not in BACKBONES:
            raise ValueError(f"backbone must be one of {BACKBONES}, got {name!r}")
        layer = norm_layer(norm)
        self.trunk = ResNetTrunk(name, layer) if name in RESNETS else MobileNetV2Trunk(layer)
        self.fpn = FeaturePyramid(self.trunk.channels, out_channels)
        self.channels = out_channels
        self.strides = STRIDES
        if norm == "frozen":
            for layer in self.trunk.first_layers():
                layer.requires_grad_(False)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Features of normalised images.

        Args:
            images: `[B, 3, H, W]`, normalised, floating point.

        Returns:
            Levels `[B, C, H/4, W/4]`, ..., `[B, C, H/32, W/32]`.
        """
        return self.fpn(self.trunk(images))
