"""Sparse R-CNN: images in, logits and boxes of every stage out (Sun et al. 2021, Sparse R-CNN)."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from sparse_rcnn.nn.dense_proposals import DensePredictions, DenseProposals
from sparse_rcnn.nn.head import Predictions
from sparse_rcnn.nn.image_size import ImageSize
from sparse_rcnn.nn.input_checks import check_has_values, check_image_sizes, check_range
from sparse_rcnn.nn.model_config import ModelConfig
from sparse_rcnn.ops.argument_checks import require_real
from sparse_rcnn.ops.positional_encoding import add_positional_encoding

__all__ = ["PIXEL_MEAN", "PIXEL_STD", "SparseRCNN", "whole_image_sizes"]

# ImageNet statistics of RGB in 0..255, as published.
PIXEL_MEAN = (123.675, 116.28, 103.53)
PIXEL_STD = (58.395, 57.12, 57.375)


class SparseRCNN(nn.Module):
    """Backbone, learned proposals and iterative head.

    Args:
        backbone: A module from normalised images `[B, 3, H, W]` to a list of pyramid levels of strides 4, 8,
            16, 32.
        proposals: A module from image sizes `[B, 2]` and levels to proposal boxes `[B, N, 4]` and features
            `[B, N, C]`, or `[1, N, C]` if they are the same for every image.
        head: A module from levels, boxes and features to `Predictions`.
        positional_encoding: Add an encoding of its position to each cell of the levels (Table 10).

    Attributes:
        config: The options of the model, if `build_sparse_rcnn` built it.
        image_size: The size to which its images are resized, if the model comes from a checkpoint.

    Example:
        >>> from sparse_rcnn import build_sparse_rcnn
        >>> model = build_sparse_rcnn("resnet10", num_classes=3, num_proposals=5, backbone_weights=None)
        >>> model(torch.zeros(2, 3, 64, 64, dtype=torch.uint8)).boxes.shape
        torch.Size([6, 2, 5, 4])
    """

    config: ModelConfig | None
    image_size: ImageSize | None
    # Plain data for checkpoints and for resizing images. The graph does not use it.
    __jit_ignored_attributes__ = ("config", "image_size")
    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(
        self, backbone: nn.Module, proposals: nn.Module, head: nn.Module, positional_encoding: bool = False
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.proposals = proposals
        self.head = head
        self.positional_encoding = positional_encoding
        self.config = None
        self.image_size = None
        self.register_buffer("pixel_mean", torch.tensor(PIXEL_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("pixel_std", torch.tensor(PIXEL_STD).view(3, 1, 1), persistent=False)
        self.register_load_state_dict_post_hook(_fill_pixel_statistics)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "SparseRCNN":
        # `to_empty` makes new buffers without values, and no state dict contains these two.
        before = (self.pixel_mean, self.pixel_std)
        super()._apply(fn, recurse)
        if self.pixel_mean.is_meta or before[0].is_meta:
            _fill_pixel_statistics(self)
        else:
            self.pixel_mean.copy_(before[0])
            self.pixel_std.copy_(before[1])
        return self

    def forward(self, images: Tensor, image_sizes: Tensor | None = None) -> Predictions:
        """Predictions of every stage.

        Args:
            images: `[B, 3, H, W]` RGB, `uint8` 0..255 or floating 0..1, padded right and bottom. The model
                normalises them. Padding may have any values.
            image_sizes: `[B, 2]` int64, true (height, width) of each image in the batch, on any device. None
                if no image is padded.

        Returns:
            Predictions with boxes in pixels of the padded batch.

        Raises:
            ValueError: If types or shapes do not fit, or the model is on the meta device and the images are
                not. On the CPU and outside of a graph, also if an image size is not positive or exceeds the
                batch, or if images are too bright, already normalised or not finite.
        """
        image_sizes = self._checked_sizes(images, image_sizes)
        levels = self.pyramid(images, image_sizes)
        boxes, features = self.proposals(image_sizes, levels)
        return self.head(levels, boxes, features)

    @torch.jit.unused
    def forward_dense(
        self, images: Tensor, image_sizes: Tensor | None = None
    ) -> tuple[Predictions, DensePredictions]:
        """The result of `forward`, and the predictions of the dense proposals. Training needs both.

        Args:
            images: As in `forward`.
            image_sizes: As in `forward`.

        Returns:
            Predictions of every stage, and of every position of the pyramid.

        Raises:
            ValueError: As in `forward`, or if the proposals are not `DenseProposals`.
        """
        if not isinstance(self.proposals, DenseProposals):
            raise ValueError('forward_dense needs a detector that was built with proposals="dense"')
        image_sizes = self._checked_sizes(images, image_sizes)
        levels = self.pyramid(images, image_sizes)
        dense = self.proposals.predict(levels)
        boxes, features = self.proposals.choose(dense, image_sizes)
        return self.head(levels, boxes, features), dense

    def pyramid(self, images: Tensor, image_sizes: Tensor) -> list[Tensor]:
        """The feature pyramid for proposals and head.

        Args:
            images: As in `forward`.
            image_sizes: `[B, 2]` as in `forward`, on the device of the images.

        Returns:
            Four levels, from `[B, C, H/4, W/4]` to `[B, C, H/32, W/32]`.
        """
        levels: list[Tensor] = self.backbone(self.normalize(images, image_sizes))
        if self.positional_encoding:
            levels = add_positional_encoding(levels, image_sizes)
        return levels

    def _checked_sizes(self, images: Tensor, image_sizes: Tensor | None) -> Tensor:
        """Does all checks of `forward`, and returns the sizes on the images' device."""
        if not torch.jit.is_scripting():
            require_real("images", images)
            check_has_values(self.pixel_mean, images)
        if images.dim() != 4 or images.shape[1] != 3:
            raise ValueError(f"images must be [B, 3, H, W], got {images.shape}")
        if image_sizes is None:
            image_sizes = whole_image_sizes(images)
        if not torch.jit.is_scripting():
            require_real("image_sizes", image_sizes)
        if list(image_sizes.shape) != [images.shape[0], 2]:
            raise ValueError(f"image_sizes must be [{images.shape[0]}, 2], got {image_sizes.shape}")
        if not torch.jit.is_scripting():
            check_image_sizes(image_sizes, images.shape[2], images.shape[3])
            check_range(images, image_sizes, self.training)
        return image_sizes.to(images.device)

    def normalize(self, images: Tensor, image_sizes: Tensor) -> Tensor:
        """Normalises images to zero mean and unit variance, and sets padding to 0.

        Args:
            images: `[B, 3, H, W]` as in `forward`.
            image_sizes: `[B, 2]` as in `forward`.

        Returns:
            `[B, 3, H, W]` of the parameters' floating-point type.
        """
        scale = 255.0 if images.is_floating_point() else 1.0
        normalized = (images.to(self.pixel_mean.dtype) * scale - self.pixel_mean) / self.pixel_std
        rows = torch.arange(images.shape[2], device=images.device)
        columns = torch.arange(images.shape[3], device=images.device)
        in_height = rows < image_sizes[:, :1]  # [B, H]
        in_width = columns < image_sizes[:, 1:]  # [B, W]
        inside = in_height[:, None, :, None] & in_width[:, None, None, :]  # [B, 1, H, W]
        return torch.where(inside, normalized, torch.zeros_like(normalized))


def whole_image_sizes(images: Tensor) -> Tensor:
    """`[B, 2]` (height, width) of a batch without padding, on its device."""
    require_real("images", images)
    if images.dim() != 4:
        raise ValueError(f"images must be [B, 3, H, W], got {images.shape}")
    count = images.shape[0]
    height = torch.full([count], images.shape[2], device=images.device)
    width = torch.full([count], images.shape[3], device=images.device)
    return torch.stack((height, width), dim=1)


def _fill_pixel_statistics(model: SparseRCNN, _: Any = None) -> None:
    """Sets both buffers to the published values, on the parameters' device. The meta device has no values."""
    like = next(model.parameters(), model.pixel_mean)
    if not like.is_meta:
        dtype = model.pixel_mean.dtype
        model.pixel_mean = torch.tensor(PIXEL_MEAN, dtype=dtype, device=like.device).view(3, 1, 1)
        model.pixel_std = torch.tensor(PIXEL_STD, dtype=dtype, device=like.device).view(3, 1, 1)
