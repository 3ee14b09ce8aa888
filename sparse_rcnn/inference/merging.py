"""Merges the detections of several views of one photo.

Detections of one view are never merged with each other: in one image, the detector finds each object once,
without NMS (paper, section 3.2).
"""

import torch
from torch import Tensor

from sparse_rcnn.ops.detections import Detections
from sparse_rcnn.ops.iou import pairwise_iou

__all__ = ["INSIDE", "SAME", "merge_augmented", "merge_tiles"]

SAME = 0.5  # IoU of two boxes of one object
INSIDE = 0.7  # if a box is cut: the share of the smaller box that lies in the other


def merge_tiles(boxes: Tensor, scores: Tensor, labels: Tensor, views: Tensor, cut: Tensor) -> Detections:
    """Merges boxes of one object that were found in several tiles.

    Boxes are taken by falling score. Each is merged with boxes of its class from other views if their IoU is
    at least 0.5. If the border of a tile cuts one of the two, it is enough that at least 0.7 of the smaller
    box lies in the other. Then the result is the box around both. Otherwise the result is the better box.

    Args:
        boxes: [D, 4] xyxy in pixels of the photo.
        scores: [D] in 0..1.
        labels: [D] int64.
        views: [D] the number of the view of each box.
        cut: [D] bool, whether the border of its view cuts the box.

    Returns:
        Boxes [E, 4], scores [E] and labels [E], best first.
    """
    order = scores.argsort(descending=True, stable=True)
    boxes, scores, labels, views, cut = (part[order] for part in (boxes, scores, labels, views, cut))
    either_cut = cut[:, None] | cut[None, :]
    same = (pairwise_iou(boxes, boxes) >= SAME) | (either_cut & (_common_share(boxes) >= INSIDE))  # [D, D]
    same &= (labels[:, None] == labels[None, :]) & (views[:, None] != views[None, :])
    free = torch.ones(len(boxes), dtype=torch.bool)
    kept: list[int] = []
    merged = boxes.clone()
    for index in range(len(boxes)):
        if not free[index]:
            continue
        members = same[index] & free
        free &= ~members
        free[index] = False
        around = boxes[members & either_cut[index]]
        if len(around):
            merged[index, :2] = torch.minimum(boxes[index, :2], around[:, :2].amin(0))
            merged[index, 2:] = torch.maximum(boxes[index, 2:], around[:, 2:].amax(0))
        kept.append(index)
    return Detections(merged[kept], scores[kept], labels[kept])


def merge_augmented(
    boxes: Tensor, scores: Tensor, labels: Tensor, views: Tensor, num_views: int
) -> Detections:
    """Takes means over views that all show the whole photo.

    Boxes are taken by falling score. Each is merged with the best box of its class from each other view, if
    their IoU is at least 0.5. The result has the mean box, weighted by scores, and the mean score. A view
    without such a box counts as a score of 0.

    Args:
        boxes: [D, 4] xyxy in pixels of the photo.
        scores: [D] in 0..1.
        labels: [D] int64.
        views: [D] the number of the view of each box.
        num_views: The number of views.

    Returns:
        Boxes [E, 4], scores [E] and labels [E], best first.
    """
    order = scores.argsort(descending=True, stable=True)
    boxes, scores, labels, views = (part[order] for part in (boxes, scores, labels, views))
    same = (pairwise_iou(boxes, boxes) >= SAME) & (labels[:, None] == labels[None, :])
    same &= views[:, None] != views[None, :]
    free = torch.ones(len(boxes), dtype=torch.bool)
    kept: list[int] = []
    means, mean_scores = boxes.clone(), scores.clone()
    for index in range(len(boxes)):
        if not free[index]:
            continue
        candidates = (same[index] & free).nonzero()[:, 0].tolist()  # best first
        first_of = {int(views[j]): j for j in reversed(candidates)}
        members = torch.tensor([index, *first_of.values()])
        free[members] = False
        weights = scores[members] / scores[members].sum()
        means[index] = (boxes[members] * weights[:, None]).sum(0)
        mean_scores[index] = scores[members].sum() / num_views
        kept.append(index)
    best = torch.tensor(kept, dtype=torch.int64)
    best = best[mean_scores[best].argsort(descending=True, stable=True)]
    return Detections(means[best], mean_scores[best], labels[best])


def _common_share(boxes: Tensor) -> Tensor:
    """For each pair, the common area as a share of the smaller box, [D, D]."""
    upper = torch.maximum(boxes[:, None, :2], boxes[None, :, :2])
    lower = torch.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
    common = (lower - upper).clamp(min=0).prod(-1)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(-1)
    return common / torch.minimum(areas[:, None], areas[None, :]).clamp(min=1e-6)
