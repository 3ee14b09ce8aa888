"""Stronger augmentation than the paper's, for small data: colours, crops, zooming out, four images in one.

After Liu et al. 2016 (SSD, section 2.2: distortion of colours, crops by IoU, zooming out) and Bochkovskiy et
al. 2020 (YOLOv4, section 3.4: mosaic). The transforms are torchvision's.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2

from sparse_rcnn.data.formats.detection_dataset import DetectionDataset
from sparse_rcnn.data.formats.transform import Transform
from sparse_rcnn.data.loading.sampler import Draw
from sparse_rcnn.data.loading.seeded import SeededDataset, seeded_by
from sparse_rcnn.data.loading.transforms import ResizeShortestEdge, without_empty_boxes
from sparse_rcnn.data.target import Target

__all__ = ["AUGMENTATIONS", "GREY", "AugmentedDataset", "CropByIou", "mosaic_of", "strong_transform"]

AUGMENTATIONS = ("none", "light", "late", "strong")
GREY = 114  # what is around an image that is smaller than its canvas


class CropByIou(v2.RandomIoUCrop):
    """torchvision's RandomIoUCrop, which also takes images without boxes, and drops the boxes outside."""

    def forward(self, *inputs: Any) -> Any:
        """Crops everything; an image without boxes stays whole."""
        image, objects = inputs if len(inputs) > 1 else inputs[0]
        if len(objects["boxes"]) == 0:
            return image, objects
        return without_empty_boxes(super().forward(image, objects))


def strong_transform(
    min_sizes: int | Sequence[int], max_size: int | None = None, vertical_flip: bool = False
) -> v2.Compose:
    """Flips, zooming out, crops by IoU, the shortest side to one of several lengths, other colours.

    Args:
        min_sizes: Lengths of the shortest side to draw from, in pixels.
        max_size: Greatest length of the longest side in pixels.
        vertical_flip: Also a vertical flip, half of the time.

    Returns:
        A transform of (image, {"boxes", "labels"}).

    Example:
        >>> from torchvision import tv_tensors
        >>> transform = strong_transform((224, 256), 512)
        >>> image = tv_tensors.Image(torch.zeros(3, 300, 400, dtype=torch.uint8))
        >>> boxes = tv_tensors.BoundingBoxes(torch.empty(0, 4), format="XYXY", canvas_size=(300, 400))
        >>> min(transform(image, {"boxes": boxes, "labels": torch.empty(0)})[0].shape[1:]) in (224, 256)
        True
    """
    steps: list[v2.Transform] = [v2.RandomHorizontalFlip(0.5)]
    if vertical_flip:
        steps.append(v2.RandomVerticalFlip(0.5))
    steps += [
        v2.RandomZoomOut(fill=GREY, side_range=(1.0, 2.0), p=0.3),
        v2.RandomApply([CropByIou(min_scale=0.5)], p=0.3),
        ResizeShortestEdge(min_sizes, max_size),
        # Last, on few pixels, and without the hue: that would take longer than all the rest.
        v2.ColorJitter(brightness=0.25, contrast=0.25, saturation=0.25),
    ]
    return v2.Compose(steps)


class AugmentedDataset(SeededDataset):
    """Samples with a stronger transform from `first_epoch` on. Some are mosaics of four images.

    Before and in the last part of the training, a sample has the data set's own transform. A detector learns
    fastest from images as they are. The last part is without the stronger transform, because new photos have
    no odd colours and no cut objects. How much of the training is over is the `share` of a `Draw`. The
    training loop sets it: `draw._replace(share=step / steps)`.

    Args:
        dataset: The data set that is read.
        seed: The seed of the augmentation.
        transform: The stronger transform. It replaces the data set's own.
        until: The share of the training after which samples are without the transform again.
        mosaic_until: The share of the training after which samples are no mosaics any more.
        mosaic: The probability that a sample is a mosaic.
        first_epoch: The number of the first epoch that has the transform.

    Example:
        >>> from sparse_rcnn.data import ShapesDataset
        >>> shapes = ShapesDataset("shapes", "val", num_images=2)
        >>> augmented = AugmentedDataset(shapes, 0, strong_transform(64), until=0.9, mosaic_until=0.5)
        >>> augmented[Draw(image_index=1, epoch=0, share=0.6)][1].image_id
        2
    """

    def __init__(
        self,
        dataset: DetectionDataset,
        seed: int,
        transform: Transform,
        until: float,
        mosaic_until: float,
        mosaic: float = 0.3,
        first_epoch: int = 0,
    ) -> None:
        super().__init__(dataset, seed)
        self.transform = transform
        self.until = until
        self.mosaic_until = mosaic_until
        self.mosaic = mosaic
        self.first_epoch = first_epoch

    def __getitem__(self, draw: Draw) -> tuple[Tensor, Target]:
        """Reads and augments one image, or four."""
        if draw.epoch < self.first_epoch or draw.share >= self.until:
            return super().__getitem__(draw)
        with seeded_by(self.seed, draw.epoch, draw.image_index):
            indices = [draw.image_index]
            if draw.share < self.mosaic_until and torch.rand(()) < self.mosaic:
                indices += torch.randint(len(self.dataset), (3,)).tolist()
            samples = [self.dataset.read(index, self.transform) for index in indices]
        return samples[0] if len(samples) == 1 else mosaic_of(samples)


def mosaic_of(samples: Sequence[tuple[Tensor, Target]]) -> tuple[Tensor, Target]:
    """Four images around one point, at half their size.

    Args:
        samples: Four images `[3, H, W]` of the same type and their targets: top left, top right, bottom
            left, bottom right.

    Returns:
        The image, and a target with all boxes, and the id and the size of the first.

    Raises:
        ValueError: If there are not four.
    """
    if len(samples) != 4:
        raise ValueError(f"a mosaic is made of 4 images, got {len(samples)}")
    sizes = [image.shape[1:] for image, _ in samples]
    middle_y = max(sizes[0][0], sizes[1][0])
    middle_x = max(sizes[0][1], sizes[2][1])
    height = middle_y + max(sizes[2][0], sizes[3][0])
    width = middle_x + max(sizes[1][1], sizes[3][1])
    canvas = samples[0][0].new_full((3, height, width), GREY)
    boxes = []
    for number, ((image, target), (h, w)) in enumerate(zip(samples, sizes, strict=True)):
        top = middle_y if number >= 2 else middle_y - h
        left = middle_x if number % 2 else middle_x - w
        canvas[:, top : top + h, left : left + w] = image
        boxes.append(target.boxes + torch.tensor([left, top, left, top]))
    wrapped = tv_tensors.BoundingBoxes(torch.cat(boxes), format="XYXY", canvas_size=(height, width))
    half = [max(1, height // 2), max(1, width // 2)]
    image = v2.functional.resize(tv_tensors.Image(canvas), half, antialias=True)
    halved = v2.functional.resize(wrapped, half)
    labels = torch.cat([target.labels for _, target in samples])
    target = samples[0][1]._replace(boxes=halved.as_subclass(Tensor), labels=labels)
    return image.as_subclass(Tensor), target
