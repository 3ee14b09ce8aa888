"""The contract of a backbone. Any trunk with a feature pyramid can keep it."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from torch import Tensor, nn

__all__ = ["STRIDES", "PyramidBackbone", "require_backbone"]

STRIDES = (4, 8, 16, 32)


@runtime_checkable
class PyramidBackbone(Protocol):
    """A module from normalised images to four pyramid levels with C channels each.

    `forward(images)` takes `[B, 3, H, W]` in floating point, of any height and width. Images are normalised
    with ImageNet's statistics, and padding is 0. It returns a list of four levels `[B, C, H/4, W/4]`,
    `[B, C, H/8, W/8]`, `[B, C, H/16, W/16]` and `[B, C, H/32, W/32]`. Sizes are rounded up.

    The module decides which of its parameters train: it calls `requires_grad_(False)` on the others, and the
    optimizer leaves those out. This library does not change its batch norms. If the weights are pretrained
    and a device has few images, use frozen ones (`torchvision.ops.FrozenBatchNorm2d`).

    Any trunk of torchvision or timm becomes a backbone in a few lines:

        class MobileNetV3(nn.Module):
            channels, strides = 256, (4, 8, 16, 32)

            def __init__(self):
                super().__init__()
                trunk = torchvision.models.mobilenet_v3_large(weights="DEFAULT").features
                levels = {"3": "0", "6": "1", "12": "2", "16": "3"}
                self.trunk = torchvision.models.feature_extraction.create_feature_extractor(trunk, levels)
                self.fpn = torchvision.ops.FeaturePyramidNetwork([24, 40, 112, 960], 256)

            def forward(self, images: Tensor) -> list[Tensor]:
                return list(self.fpn(self.trunk(images)).values())

        model = build_sparse_rcnn(MobileNetV3(), num_classes=3)

    With timm, the trunk is `timm.create_model(name, features_only=True, out_indices=(1, 2, 3, 4))`, and its
    channels are `trunk.feature_info.channels()`. It returns a list. Make a dict of it for the pyramid.

    Attributes:
        channels: C of every level. It must equal the model's `hidden_dim`.
        strides: The strides of the levels in pixels: (4, 8, 16, 32).

    Example:
        >>> from sparse_rcnn.nn import Backbone
        >>> isinstance(Backbone("resnet18"), PyramidBackbone)
        True
    """

    channels: int
    strides: Sequence[int]

    def forward(self, images: Tensor) -> list[Tensor]:
        """The levels of normalised images."""
        ...


def require_backbone(backbone: nn.Module, hidden_dim: int) -> None:
    """Checks that a module can be the backbone of a model.

    Args:
        backbone: The module.
        hidden_dim: Channels of the model, C.

    Raises:
        ValueError: If `channels` or `strides` is missing or does not fit.
    """
    kind = type(backbone).__name__
    for name in ("channels", "strides"):
        if not hasattr(backbone, name):
            raise ValueError(f"backbone {kind} has no attribute {name!r}: see help(PyramidBackbone)")
    if backbone.channels != hidden_dim:
        raise ValueError(
            f"backbone {kind} gives levels of {backbone.channels} channels, but hidden_dim is {hidden_dim}: "
            "make them equal"
        )
    strides = backbone.strides
    if not isinstance(strides, Sequence) or tuple(strides) != STRIDES:
        raise ValueError(f"backbone {kind} must have levels of strides {STRIDES}, got {strides}")
