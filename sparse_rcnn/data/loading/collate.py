"""Samples of different sizes as one padded batch."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from sparse_rcnn.data.target import Target
from sparse_rcnn.ops.argument_checks import require_boxes, whole_number

__all__ = ["Batch", "Targets", "collate"]


class Targets(NamedTuple):
    """The objects of a batch, padded to the same number M in each image.

    Attributes:
        boxes: [B, M, 4] float32, xyxy in pixels of the padded batch. 0 where padded.
        labels: [B, M] int64. 0 where padded.
        valid: [B, M] bool. False where padded.

    Example:
        >>> from sparse_rcnn.data import ShapesDataset
        >>> dataset = ShapesDataset("shapes", "val", num_images=2)
        >>> targets = collate([dataset[0], dataset[1]]).targets
        >>> targets.boxes[targets.valid].shape
        torch.Size([..., 4])
    """

    boxes: Tensor
    labels: Tensor
    valid: Tensor


class Batch(NamedTuple):
    """Images and targets of a batch.

    Attributes:
        images: [B, 3, H, W] RGB, uint8 0..255 or floating 0..1, padded with 0 at the right and bottom.
        image_sizes: [B, 2] int64, the true (height, width) of each image in the batch in pixels.
        targets: The objects.
        image_ids: [B] int64.
        original_sizes: [B, 2] int64, (height, width) of each image file in pixels.

    Example:
        >>> from sparse_rcnn.data import ShapesDataset
        >>> dataset = ShapesDataset("shapes", "val", num_images=2)
        >>> batch = collate([dataset[0], dataset[1]])
        >>> batch.image_ids
        tensor([1, 2])
    """

    images: Tensor
    image_sizes: Tensor
    targets: Targets
    image_ids: Tensor
    original_sizes: Tensor


def collate(
    samples: Sequence[tuple[Tensor, Target]], size_divisor: int = 32, target_divisor: int = 1
) -> Batch:
    """Pads samples to one batch. Give it to a `DataLoader` as `collate_fn`.

    Args:
        samples: Pairs of an image [3, h, w] and its `Target`. All images are uint8, or all are floating.
        size_divisor: Height and width of the batch are rounded up to a multiple of it.
        target_divisor: The number of targets M is rounded up to a multiple of it. If it is above 1, M is at
            least 1. A compiled training step then gets few different shapes.

    Returns:
        The batch. H and W are the smallest multiples of `size_divisor` into which all images fit.

    Raises:
        ValueError: If there are no samples, images are not [3, h, w] or differ in dtype, boxes are not [M, 4]
            or their number differs from that of the labels, or a divisor is below 1.

    Example:
        >>> from sparse_rcnn.data import ShapesDataset
        >>> dataset = ShapesDataset("shapes", "val", num_images=2)
        >>> collate([dataset[0], dataset[1]]).images.shape
        torch.Size([2, 3, 128, 128])
    """
    if len(samples) == 0:
        raise ValueError("collate needs at least one sample, got none")
    size_divisor = whole_number("size_divisor", size_divisor)
    target_divisor = whole_number("target_divisor", target_divisor)
    dtype = samples[0][0].dtype
    for image, target in samples:
        _check_sample(image, target, dtype)

    sizes = torch.tensor([image.shape[1:] for image, _ in samples])  # [B, 2]
    height, width = (-(-int(side) // size_divisor) * size_divisor for side in sizes.amax(dim=0))
    num_targets = max(len(target.boxes) for _, target in samples)
    if target_divisor > 1:
        num_targets = -(-max(num_targets, 1) // target_divisor) * target_divisor
    images = torch.zeros(len(samples), 3, height, width, dtype=dtype)
    boxes = torch.zeros(len(samples), num_targets, 4)
    labels = torch.zeros(len(samples), num_targets, dtype=torch.int64)
    valid = torch.zeros(len(samples), num_targets, dtype=torch.bool)
    for index, (image, target) in enumerate(samples):
        images[index, :, : image.shape[1], : image.shape[2]] = image
        boxes[index, : len(target.boxes)] = target.boxes
        labels[index, : len(target.boxes)] = target.labels
        valid[index, : len(target.boxes)] = True
    return Batch(
        images=images,
        image_sizes=sizes,
        targets=Targets(boxes, labels, valid),
        image_ids=torch.tensor([target.image_id for _, target in samples]),
        original_sizes=torch.tensor([target.original_size for _, target in samples]),
    )


def _check_sample(image: Tensor, target: Target, dtype: torch.dtype) -> None:
    if image.ndim != 3 or image.shape[0] != 3 or 0 in image.shape:
        raise ValueError(f"image {target.image_id}: expected an image [3, h, w], got {tuple(image.shape)}")
    if image.dtype != dtype:
        raise ValueError(
            f"image {target.image_id}: is {image.dtype}, but the first image of the batch is {dtype}"
        )
    if not (dtype == torch.uint8 or dtype.is_floating_point):
        raise ValueError(f"image {target.image_id}: expected uint8 or floating pixels, got {dtype}")
    if target.boxes.shape != (len(target.labels), 4) or target.labels.ndim != 1:
        raise ValueError(
            f"image {target.image_id}: expected boxes [M, 4] and labels [M], "
            f"got {tuple(target.boxes.shape)} and {tuple(target.labels.shape)}"
        )
    require_boxes(f"image {target.image_id}: boxes", target.boxes)
