"""A transform of torchvision.transforms.v2 applied to an image and its boxes, and what it returns checked."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

__all__ = ["Transform", "apply_transform"]

# It is called as transform(tv_tensors.Image, {"boxes": tv_tensors.BoundingBoxes, "labels": Tensor}) and
# returns the same pair. Every transform of torchvision.transforms.v2, and a Compose of them, does so.
Transform = Callable[..., Any]


def apply_transform(
    transform: Transform, image: Tensor, boxes: Tensor, labels: Tensor, path: str
) -> tuple[Tensor, Tensor, Tensor]:
    """An image and its boxes after a transform.

    Args:
        transform: The transform.
        image: [3, H, W] uint8.
        boxes: [M, 4] xyxy in pixels.
        labels: [M] int64.
        path: The file of the image, for messages.

    Returns:
        Image, boxes and labels as plain tensors.

    Raises:
        ValueError: If the transform returned something else than an image, boxes and labels that fit each
            other.
    """
    from torchvision import tv_tensors  # its import takes seconds, and detecting does without

    canvas = (image.shape[1], image.shape[2])
    wrapped = tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=canvas)
    transformed = transform(tv_tensors.Image(image), {"boxes": wrapped, "labels": labels})

    complaint = f"{path}: the transform must return (image, {{'boxes', 'labels'}})"
    if not isinstance(transformed, tuple) or len(transformed) != 2 or not isinstance(transformed[1], dict):
        raise ValueError(f"{complaint}, got {type(transformed).__name__}")
    image, objects = transformed
    if not {"boxes", "labels"} <= objects.keys():
        raise ValueError(f"{complaint}, got a dict with {sorted(objects)}")
    boxes, labels = objects["boxes"], objects["labels"]
    if not all(isinstance(part, Tensor) for part in (image, boxes, labels)):
        raise ValueError(
            f"{complaint} as tensors, got {[type(part).__name__ for part in (image, boxes, labels)]}"
        )
    if getattr(boxes, "format", tv_tensors.BoundingBoxFormat.XYXY) != tv_tensors.BoundingBoxFormat.XYXY:
        raise ValueError(f"{complaint} with boxes in format XYXY, got {boxes.format}")  # type: ignore[attr-defined]
    if (
        image.ndim != 3
        or image.shape[0] != 3
        or not (image.dtype == torch.uint8 or image.is_floating_point())
    ):
        raise ValueError(
            f"{complaint} with an image [3, H, W], uint8 or floating, got {tuple(image.shape)} {image.dtype}"
        )
    if boxes.shape != (len(labels), 4) or labels.ndim != 1 or labels.dtype != torch.int64:
        raise ValueError(
            f"{complaint} with boxes [M, 4] and int64 labels [M], "
            f"got {tuple(boxes.shape)} and {tuple(labels.shape)} {labels.dtype}"
        )
    return image.as_subclass(Tensor), boxes.as_subclass(Tensor).float(), labels.as_subclass(Tensor)
