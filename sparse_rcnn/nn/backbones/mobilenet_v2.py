"""The trunk of MobileNetV2 (Sandler et al. 2018, table 2).

Layers, their names and their first weights are torchvision's, which is not imported: see `resnet`.
"""

from torch import Tensor, nn

from sparse_rcnn.nn.backbones.resnet import NUM_CLASSES, Norm

__all__ = ["BLOCKS", "InvertedResidual", "MobileNetV2Trunk"]

# Expansion, output channels, repetitions and stride of the first one (table 2).
BLOCKS = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


class MobileNetV2Trunk(nn.Module):
    """MobileNetV2 without its classifier, with torchvision's parameter names.

    Args:
        norm: From a number of channels to a norm.
    """

    def __init__(self, norm: Norm) -> None:
        super().__init__()
        layers: list[nn.Module] = [_convolution(3, 32, 3, 2, 1, norm)]
        before = 32
        for expansion, channels, repetitions, stride in BLOCKS:
            for index in range(repetitions):
                layers.append(
                    InvertedResidual(before, channels, stride if index == 0 else 1, expansion, norm)
                )
                before = channels
        layers.append(_convolution(before, 1280, 1, 1, 1, norm))
        self.features = nn.Sequential(*layers)
        self.channels = [24, 32, 96, 1280]
        classifier = nn.Linear(1280, NUM_CLASSES)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")
        nn.init.normal_(classifier.weight)  # draws what torchvision's classifier draws: a seed means the same

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


class InvertedResidual(nn.Module):
    """A wider 1 x 1 convolution, a depthwise 3 x 3 one and a narrow 1 x 1 one, with a shortcut where it fits.

    Args:
        before: Channels of its input.
        channels: Channels of its output.
        stride: 1 or 2.
        expansion: The inner width, as a multiple of `before`.
        norm: From a number of channels to a norm.
    """

    def __init__(self, before: int, channels: int, stride: int, expansion: int, norm: Norm) -> None:
        super().__init__()
        width = before * expansion
        self.has_shortcut = stride == 1 and before == channels
        layers = [_convolution(before, width, 1, 1, 1, norm)] if expansion != 1 else []
        layers.append(_convolution(width, width, 3, stride, width, norm))
        self.conv = nn.Sequential(*layers, nn.Conv2d(width, channels, 1, bias=False), norm(channels))

    def forward(self, x: Tensor) -> Tensor:
        """`[B, before, H, W]` to `[B, channels, H/stride, W/stride]`."""
        return x + self.conv(x) if self.has_shortcut else self.conv(x)


def _convolution(
    before: int, channels: int, size: int, stride: int, groups: int, norm: Norm
) -> nn.Sequential:
    convolution = nn.Conv2d(before, channels, size, stride, size // 2, groups=groups, bias=False)
    return nn.Sequential(convolution, norm(channels), nn.ReLU6(inplace=True))
