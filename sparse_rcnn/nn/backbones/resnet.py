"""The residual trunk (He et al. 2016, ResNet), its strides in the 3 x 3 convolutions as in torchvision.

Layers, their names and their first weights are torchvision's. It is written here because importing
torchvision takes as long as importing PyTorch, and this is all that a detector needs of it.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from sparse_rcnn.nn.backbones.pooling import ASKS_FOR_EVEN_SIZES, pool_of_slices

__all__ = ["NUM_CLASSES", "RESNETS", "BasicBlock", "Bottleneck", "Norm", "ResNetTrunk"]

# Blocks of each stage, and whether they are bottlenecks. resnet10 is not published. It trains on small images
# on a CPU in minutes.
RESNETS = {
    "resnet10": ((1, 1, 1, 1), False),
    "resnet18": ((2, 2, 2, 2), False),
    "resnet34": ((3, 4, 6, 3), False),
    "resnet50": ((3, 4, 6, 3), True),
    "resnet101": ((3, 4, 23, 3), True),
}
NUM_CLASSES = 1000  # of ImageNet
Norm = Callable[[int], nn.Module]


class ResNetTrunk(nn.Module):
    """A ResNet without its classifier, with torchvision's parameter names.

    Args:
        name: "resnet10", "resnet18", "resnet34", "resnet50" or "resnet101".
        norm: From a number of channels to a norm.
    """

    def __init__(self, name: str, norm: Norm) -> None:
        super().__init__()
        depths, is_bottleneck = RESNETS[name]
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = norm(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        widths = [width * (4 if is_bottleneck else 1) for width in (64, 128, 256, 512)]
        inputs = [64, *widths]
        block = Bottleneck if is_bottleneck else BasicBlock
        stages: list[nn.Module] = []
        for depth, before, channels in zip(depths, inputs, widths, strict=False):
            stride = 1 if not stages else 2
            blocks = [block(before, channels, stride, norm)]
            blocks += [block(channels, channels, 1, norm) for _ in range(depth - 1)]
            stages.append(nn.Sequential(*blocks))
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self.channels = widths
        nn.Linear(widths[-1], NUM_CLASSES)  # draws what torchvision's classifier draws: a seed means the same
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

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


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions and a shortcut.

    Args:
        before: Channels of its input.
        channels: Channels of its output.
        stride: 1 or 2.
        norm: From a number of channels to a norm.
    """

    def __init__(self, before: int, channels: int, stride: int, norm: Norm) -> None:
        super().__init__()
        downsample = _shortcut(before, channels, stride, norm)
        self.conv1 = nn.Conv2d(before, channels, 3, stride, padding=1, bias=False)
        self.bn1 = norm(channels)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = norm(channels)
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        """`[B, before, H, W]` to `[B, channels, H/stride, W/stride]`."""
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        if self.downsample is not None:
            x = self.downsample(x)
        out += x
        return self.relu(out)


class Bottleneck(nn.Module):
    """Convolutions of 1 x 1, 3 x 3 and 1 x 1, the inner one a quarter as wide, and a shortcut.

    Args:
        before: Channels of its input.
        channels: Channels of its output.
        stride: 1 or 2.
        norm: From a number of channels to a norm.
    """

    def __init__(self, before: int, channels: int, stride: int, norm: Norm) -> None:
        super().__init__()
        downsample = _shortcut(before, channels, stride, norm)
        width = channels // 4
        self.conv1 = nn.Conv2d(before, width, 1, bias=False)
        self.bn1 = norm(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=1, bias=False)
        self.bn2 = norm(width)
        self.conv3 = nn.Conv2d(width, channels, 1, bias=False)
        self.bn3 = norm(channels)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        """`[B, before, H, W]` to `[B, channels, H/stride, W/stride]`."""
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        if self.downsample is not None:
            x = self.downsample(x)
        out += x
        return self.relu(out)


def _shortcut(before: int, channels: int, stride: int, norm: Norm) -> nn.Sequential | None:
    """The projection of a block's input where it has another shape than its output."""
    if stride == 1 and before == channels:
        return None
    return nn.Sequential(nn.Conv2d(before, channels, 1, stride, bias=False), norm(channels))
