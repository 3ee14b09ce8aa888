"""Images as a batch, and the detections in a batch."""

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
        images: The resized images, each [3, h, w]. All are uint8, or all are floating.
        original_sizes: (height, width) of each image before it was resized.

    Returns:
        The batch. `collate` pads it.

    Raises:
        ValueError: If `collate` refuses the images.

    Example:
        >>> batch_of([torch.zeros(3, 60, 90)], [(120, 180)]).images.shape
        torch.Size([1, 3, 64, 96])
    """
    boxes, labels = torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64)
    sizes = zip(images, original_sizes, strict=True)
    return collate([(image, Target(boxes, labels, index, size)) for index, (image, size) in enumerate(sizes)])


def detect_batch(detect: Detect, batch: Batch, device: torch.device) -> Detections:
    """Finds objects in a batch.

    Args:
        detect: A function of images [B, 3, H, W] and their true (height, width) [B, 2]. It returns boxes
            [B, D, 4], scores [B, D] and labels [B, D].
        batch: The batch, on the CPU.
        device: The device of `detect`.

    Returns:
        The detections on the CPU. Boxes are in pixels of the original images.

    Example:
        >>> def detect(images, sizes):
        ...     return torch.tensor([[[0.0, 0.0, 30.0, 60.0]]]), torch.tensor([[0.9]]), torch.tensor([[1]])
        >>> batch = batch_of([torch.zeros(3, 60, 90)], [(120, 180)])
        >>> detect_batch(detect, batch, torch.device("cpu")).boxes
        tensor([[[  0.,   0.,  60., 120.]]])
    """
    with torch.inference_mode():
        images = batch.images.to(device, non_blocking=True)
        boxes, scores, labels = detect(images, batch.image_sizes.to(device, non_blocking=True))
        boxes = rescale_boxes(boxes.cpu(), batch.image_sizes, batch.original_sizes)
        scores, labels = scores.cpu(), labels.cpu()
    # Copies are ordinary tensors. Autograd refuses those of inference mode.
    return Detections(boxes.clone(), scores.clone(), labels.clone())
