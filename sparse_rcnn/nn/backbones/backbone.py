"""Backbones: a torchvision trunk and a feature pyramid (Lin et al. 2017, FPN) of strides 4, 8, 16, 32."""

from collections.abc import Callable
from functools import partial

import torch
import torchvision
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, ResNet

from sparse_rcnn.nn.backbones.contract import STRIDES
from sparse_rcnn.nn.backbones.feature_pyramid import FeaturePyramid
from sparse_rcnn.nn.backbones.frozen_norm import FrozenNorm2d
from sparse_rcnn.nn.backbones.pooling import ASKS_FOR_EVEN_SIZES, pool_of_slices

__all__ = ["BACKBONES", "NORMS", "RESNETS", "Backbone", "MobileNetV2Trunk", "ResNetTrunk", "norm_layer"]

# resnet10 has one block per stage. It is not published. It trains on small images on a CPU in minutes.
RESNETS = {
    "resnet10": partial(ResNet, BasicBlock, [1, 1, 1, 1]),
    "resnet18": torchvision.models.resnet18,
    "resnet34": torchvision.models.resnet34,
    "resnet50": torchvision.models.resnet50,
    "resnet101": torchvision.models.resnet101,
}
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


class ResNetTrunk(nn.Module):
    """torchvision's ResNet without its classifier, with torchvision's parameter names.

    Args:
        name: "resnet10", "resnet18", "resnet34", "resnet50" or "resnet101".
        norm: A name for `norm_layer`.
    """

    def __init__(self, name: str, norm: str) -> None:
        super().__init__()
        resnet = RESNETS[name](norm_layer=norm_layer(norm))
        self.conv1, self.bn1, self.relu, self.maxpool = resnet.conv1, resnet.bn1, resnet.relu, resnet.maxpool
        self.layer1, self.layer2 = resnet.layer1, resnet.layer2
        self.layer3, self.layer4 = resnet.layer3, resnet.layer4
        width = resnet.fc.in_features
        self.channels = [width // 8, width // 4, width // 2, width]

    def forward(self, images: Tensor) -> list[Tensor]:
        """`[B, 3, H, W]` to the outputs of the four residual stages, of strides 4, 8, 16 and 32."""
        x = self.pool(self.relu(self.bn1(self.conv1(images))))  # [B, 64, H/4, W/4]
        c2 = self.layer1(x)
        c3 = self.layer2(c2)
        c4 = self.layer3(c3)
        return [c2, c3, c4, self.layer4(c4)]

    def pool(self, x: Tensor) -> Tensor:
        """The stem's max pooling of `[B, 64, H/2, W/2]`."""
        if not torch.jit.is_scripting():  # noqa: SIM102 (what scripts)
            if ASKS_FOR_EVEN_SIZES and torch.compiler.is_compiling():
                return pool_of_slices(x)
        return self.maxpool(x)

    def first_layers(self) -> list[nn.Module]:
        """Stem and first residual stage. With norm "frozen", they do not train."""
        return [self.conv1, self.bn1, self.layer1]

    def blocks(self) -> list[nn.Module]:
        """The residual stages, in the order in which they run."""
        return [self.layer1, self.layer2, self.layer3, self.layer4]


class MobileNetV2Trunk(nn.Module):
    """torchvision's MobileNetV2 without its classifier, with torchvision's parameter names.

    Args:
        norm: A name for `norm_layer`.
    """

    def __init__(self, norm: str) -> None:
        super().__init__()
        self.features = torchvision.models.mobilenet_v2(weights=None, norm_layer=norm_layer(norm)).features
        self.channels = [24, 32, 96, 1280]

    def forward(self, images: Tensor) -> list[Tensor]:
        """`[B, 3, H, W]` to features of strides 4, 8, 16 and 32."""
        levels: list[Tensor] = []
        x = images
        for index, layer in enumerate(self.features):
            x = layer(x)
            if index in (3, 6, 13, 18):  # the last block of strides 4, 8, 16 and 32
                levels.append(x)
        return levels

    def first_layers(self) -> list[nn.Module]:
        """Everything up to stride 4. With norm "frozen", it does not train."""
        return list(self.features[:4])

    def blocks(self) -> list[nn.Module]:
        """The blocks, in the order in which they run."""
        return list(self.features)


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
        self.trunk = ResNetTrunk(name, norm) if name in RESNETS else MobileNetV2Trunk(norm)
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
