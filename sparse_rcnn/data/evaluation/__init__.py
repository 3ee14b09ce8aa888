"""From detections to COCO's average precision."""

from sparse_rcnn.data.evaluation.coco_metrics import coco_results, evaluate_coco, format_metrics

__all__ = [
    "coco_results",
    "evaluate_coco",
    "format_metrics",
]
