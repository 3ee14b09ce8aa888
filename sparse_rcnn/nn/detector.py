"""Sparse R-CNN: images in, every stage's logits and boxes out (Sun et al. 2021, Sparse R-CNN)."""

import torch
from torch import Tensor, nn

from sparse_rcnn.nn.head import Predictions
from sparse_rcnn.nn.image_size import ImageSize
from sparse_rcnn.nn.model_config import ModelConfig
from sparse_rcnn.ops.positional_encoding import add_positional_encoding

# ImageNet statistics of RGB in 0..255, as published.
PIXEL_MEAN = (123.675, 116.28, 103.53)
PIXEL_STD = (58.395, 57.12, 57.375)
BRIGHTEST = 10.0  # where 1 is white; resizing and noise go somewhat beyond 1


class SparseRCNN(nn.Module):
    """Backbone, learned proposals and iterative head.

    Args:
        backbone: normalised images ``[B, 3, H, W]`` to a list of pyramid levels of strides 4, 8, 16, 32.
        proposals: image sizes ``[B, 2]`` to proposal boxes ``[B, N, 4]`` and features ``[1, N, C]``.
        head: levels, boxes and features to :class:`Predictions`.
        positional_encoding: add to the levels where in the image each cell is (Table 10).

    Attributes:
        config: the options that it was built with, if ``build_sparse_rcnn`` built it.
        image_size: the sizes that its images are resized to, if it comes from a checkpoint.
    """

    config: ModelConfig | None
    image_size: ImageSize | None
    # Plain data for checkpoints and for what resizes images: no part of the graph.
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

    def forward(self, images: Tensor, image_sizes: Tensor) -> Predictions:
        """Predictions of every stage.

        Args:
            images: ``[B, 3, H, W]`` RGB, ``uint8`` 0..255 or floating 0..1, padded right and bottom.
                Normalisation happens here; what the padding holds does not matter.
            image_sizes: ``[B, 2]`` int64, true (height, width) of each image in the batch, on any device.

        Returns:
            Predictions with boxes in pixels of the padded batch.

        Raises:
            ValueError: if the shapes do not fit, or an image size is not positive or exceeds the batch
                (the values are checked for sizes on the CPU, outside of a compiled graph), or floating
                images are far brighter than 1 (checked likewise, and not inside of ``torch.func``).
        """
        if images.dim() != 4 or images.shape[1] != 3:
            raise ValueError(f"images must be [B, 3, H, W], got {images.shape}")
        if list(image_sizes.shape) != [images.shape[0], 2]:
            raise ValueError(f"image_sizes must be [{images.shape[0]}, 2], got {image_sizes.shape}")
        if not torch.jit.is_scripting():
            _check_image_sizes(image_sizes, images.shape[2], images.shape[3])
            _check_range(images, image_sizes)
        image_sizes = image_sizes.to(images.device)
        levels = self.backbone(self.normalize(images, image_sizes))
        if self.positional_encoding:
            levels = add_positional_encoding(levels, image_sizes)
        boxes, features = self.proposals(image_sizes)
        return self.head(levels, boxes, features)

    def normalize(self, images: Tensor, image_sizes: Tensor) -> Tensor:
        """Images with zero mean and unit variance, and 0 as padding.

        Args:
            images: ``[B, 3, H, W]`` as in :meth:`forward`.
            image_sizes: ``[B, 2]`` as in :meth:`forward`.

        Returns:
            ``[B, 3, H, W]`` of the parameters' floating point type.
        """
        scale = 255.0 if images.is_floating_point() else 1.0
        normalized = (images.to(self.pixel_mean.dtype) * scale - self.pixel_mean) / self.pixel_std
        rows = torch.arange(images.shape[2], device=images.device)
        columns = torch.arange(images.shape[3], device=images.device)
        in_height = rows < image_sizes[:, :1]  # [B, H]
        in_width = columns < image_sizes[:, 1:]  # [B, W]
        inside = in_height[:, None, :, None] & in_width[:, None, None, :]  # [B, 1, H, W]
        return torch.where(inside, normalized, torch.zeros_like(normalized))


def _check_image_sizes(image_sizes: Tensor, height: int, width: int) -> None:
    if torch.compiler.is_compiling() or image_sizes.device.type != "cpu":
        return  # no branching on values inside a graph, no extra transfer from a device
    too_large = (image_sizes[:, 0] > height) | (image_sizes[:, 1] > width)
    wrong = too_large | (image_sizes < 1).any(dim=1)
    if wrong.any():
        index = int(wrong.nonzero()[0, 0])
        raise ValueError(
            f"image_sizes[{index}] is {image_sizes[index].tolist()}, "
            f"but must be at least 1 and at most the padded batch's {[height, width]}"
        )


def _check_range(images: Tensor, image_sizes: Tensor) -> None:
    # 0..255 as floating point would be 255 times too bright: no error, and no detections.
    if torch.compiler.is_compiling() or images.device.type != "cpu" or not images.is_floating_point():
        return
    if torch._C._functorch.maybe_current_level() is not None:  # vmap takes no branching on values
        return
    for index in (images > BRIGHTEST).flatten(1).any(dim=1).nonzero().flatten().tolist():
        height, width = image_sizes[index].tolist()
        if (images[index, :, :height, :width] > BRIGHTEST).any():  # padding may hold anything
            raise ValueError(
                f"images of floating point must be 0..1, but images[{index}] looks like 0..255: "
                "divide by 255, or give uint8"
            )
