"""Detections as COCO results: plain dicts that all evaluators take."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from sparse_rcnn.ops.argument_checks import whole_number
from sparse_rcnn.ops.detections import Detections

__all__ = ["coco_results"]


def coco_results(
    detections: Detections, image_ids: Tensor | Sequence[int], category_ids: Sequence[int | None]
) -> list[dict[str, Any]]:
    """Converts a batch of detections to COCO results.

    Args:
        detections: boxes [B, D, 4] xyxy in pixels of the image files, scores [B, D], labels [B, D].
        image_ids: [B] ids of the images.
        category_ids: [K] category id of each label (`category_ids` of the data set). Labels with None are
            left out.

    Returns:
        One dict per detection, ready for JSON: image_id, category_id, bbox (xywh in pixels) and score. Boxes
        without area are left out, as published.

    Raises:
        ValueError: If the shapes do not fit each other, or a label has no category id.

    Example:
        >>> from sparse_rcnn.ops import Detections
        >>> boxes, scores = torch.tensor([[[1.0, 2.0, 4.0, 6.0]]]), torch.tensor([[0.5]])
        >>> coco_results(Detections(boxes, scores, torch.tensor([[0]])), [139], category_ids=[17])
        [{'image_id': 139, 'category_id': 17, 'bbox': [1.0, 2.0, 3.0, 4.0], 'score': 0.5}]
    """
    boxes, scores, labels = (
        part.detach().cpu() for part in (detections.boxes, detections.scores, detections.labels)
    )
    if isinstance(image_ids, Tensor):
        image_ids = image_ids.tolist()
    ids = [whole_number("image_ids", image_id, -(2**63)) for image_id in image_ids]
    if boxes.shape != (*labels.shape, 4) or scores.shape != labels.shape or labels.ndim != 2:
        raise ValueError(
            "expected boxes [B, D, 4], scores [B, D] and labels [B, D], "
            f"got {tuple(boxes.shape)}, {tuple(scores.shape)} and {tuple(labels.shape)}"
        )
    if len(ids) != len(labels):
        raise ValueError(f"detections of {len(labels)} images came with {len(ids)} image ids")
    if labels.numel() and not 0 <= int(labels.min()) <= int(labels.max()) < len(category_ids):
        raise ValueError(
            f"labels must be in 0..{len(category_ids) - 1} for {len(category_ids)} category ids, "
            f"got {int(labels.min())}..{int(labels.max())}"
        )
    return [
        {
            "image_id": image_id,
            "category_id": int(category),
            "bbox": [x1, y1, x2 - x1, y2 - y1],
            "score": score,
        }
        for image_id, *columns in zip(ids, boxes.tolist(), scores.tolist(), labels.tolist(), strict=True)
        for (x1, y1, x2, y2), score, label in zip(*columns, strict=True)
        if x2 > x1 and y2 > y1 and (category := category_ids[label]) is not None
    ]
