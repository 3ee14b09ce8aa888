"""Pads targets of torchvision's form, one dict per image, to one batch."""

import torch
from torch import Tensor

from sparse_rcnn.ops.argument_checks import require_boxes
from sparse_rcnn.ops.boxes import rescale_boxes

__all__ = ["pad_targets"]


def pad_targets(
    targets: list[dict[str, Tensor]], original_sizes: Tensor, image_sizes: Tensor, category_ids: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Pads targets to one number of boxes.

    Args:
        targets: One dict per image, with `boxes` `[M, 4]` xyxy in pixels of the image and `labels` `[M]`.
        original_sizes: `[B, 2]` (height, width) of the images.
        image_sizes: `[B, 2]` (height, width) of the resized images.
        category_ids: `[K]` numbers that the targets have in the place of 0..K-1, or `[0]` if they have none.

    Returns:
        On the CPU: boxes `[B, M, 4]` in pixels of the resized images, labels `[B, M]` and `valid` `[B, M]`.

    Raises:
        ValueError: If a target is malformed or its label is no category id. The message names it.
    """
    if len(targets) != len(image_sizes):
        raise ValueError(f"one target per image is needed, got {len(targets)} for {len(image_sizes)} images")
    most = 0
    for index, target in enumerate(targets):
        _check_target(index, target, original_sizes[index])
        most = max(most, len(target["labels"]))
    boxes = torch.zeros(len(targets), most, 4)
    labels = torch.zeros(len(targets), most, dtype=torch.int64)
    valid = torch.zeros(len(targets), most, dtype=torch.bool)
    for index, target in enumerate(targets):
        count = len(target["labels"])
        boxes[index, :count] = target["boxes"].detach().cpu().to(torch.float32)
        labels[index, :count] = _labels_of(index, target["labels"].cpu(), category_ids.cpu())
        valid[index, :count] = True
    return rescale_boxes(boxes, original_sizes, image_sizes), labels, valid


def _labels_of(index: int, ids: Tensor, category_ids: Tensor) -> Tensor:
    if len(category_ids) == 0:
        return ids
    same = ids[:, None] == category_ids[None, :]  # [M, K]
    unknown = ids[~same.any(dim=1)]
    if len(unknown) > 0:
        raise ValueError(f"targets[{index}]['labels'] has {int(unknown[0])}, which is no category id")
    return same.to(torch.int64).argmax(dim=1)


def _check_target(index: int, target: dict[str, Tensor], size: Tensor) -> None:
    if "boxes" not in target or "labels" not in target:
        raise ValueError(f"targets[{index}] must have 'boxes' and 'labels', got {list(target.keys())}")
    boxes, labels = target["boxes"], target["labels"]
    if boxes.dim() != 2 or boxes.shape[1] != 4 or list(labels.shape) != [boxes.shape[0]]:
        raise ValueError(
            f"targets[{index}] must have boxes [M, 4] and labels [M], got {boxes.shape} and {labels.shape}"
        )
    if labels.is_floating_point() or labels.dtype == torch.bool:
        raise ValueError(f"targets[{index}]['labels'] must be integers, got {labels.dtype}")
    require_boxes(f"targets[{index}]['boxes']", boxes)
    bad = ~torch.isfinite(boxes).all(dim=1) | (boxes[:, 2:] <= boxes[:, :2]).any(dim=1)
    if bad.any():
        box = int(bad.nonzero()[0, 0])
        corners: list[float] = boxes[box].cpu().to(torch.float64).tolist()
        raise ValueError(
            f"targets[{index}]['boxes'][{box}] is {corners}: a box must be finite and of positive width "
            f"and height (x1, y1, x2, y2); its image is {int(size[0])} high and {int(size[1])} wide"
        )
