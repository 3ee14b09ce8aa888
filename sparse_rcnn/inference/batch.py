"""From images to the detections of a batch, whatever detects."""

from collections.abc import Callable

import torch
from torch import Tensor

from sparse_rcnn.data.loading.collate import Batch, collate
from sparse_rcnn.data.target import Target
from sparse_rcnn.ops.boxes import rescale_boxes
from sparse_rcnn.ops.detections import Detections

__all__ = ["Detect", "batch_of", "detect_batch"]

# Images [B, 3, H, W] uint8 and their (height, width) [B, 2] -> boxes [B, D, 4], scores [B, D], labels [B, D].
Detect = Callable[[Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]


def batch_of(images: list[Tensor], original_sizes: list[tuple[int, int]]) -> Batch:
    """Images without targets as one batch.

    Args:
        images: [3, h, w] each, uint8 or floating (all alike), resized as the detector wants them.
        original_sizes: (height, width) of each before it was resized.

    Returns:
        The batch, padded as `collate` pads.

    Raises:
        ValueError: As `collate`.
    """
    boxes, labels = torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64)
    sizes = zip(images, original_sizes, strict=True)
    return collate([(image, Target(boxes, labels, index, size)) for index, (image, size) in enumerate(sizes)])


def detect_batch(detect: Detect, batch: Batch, device: torch.device) -> Detections:
    """Detections of a batch.

    Args:
        detect: Images [B, 3, H, W] and their true (height, width) [B, 2] in, boxes [B, D, 4], scores [B, D]
            and labels [B, D] out.
        batch: On the CPU.
        device: Where `detect` wants it.

    Returns:
        The detections on the CPU, boxes in pixels of the original images.
    """
    with torch.inference_mode():
        images = batch.images.to(device, non_blocking=True)
        boxes, scores, labels = detect(images, batch.image_sizes.to(device, non_blocking=True))
        boxes = rescale_boxes(boxes.cpu(), batch.image_sizes, batch.original_sizes)
        scores, labels = scores.cpu(), labels.cpu()
    # Not inference tensors, which autograd and in-place arithmetic refuse.
    return Detections(boxes.clone(), scores.clone(), labels.clone())
