"""COCO's average precision and recall."""

from sparse_rcnn.data.evaluation.coco_metrics import coco_results, evaluate_coco, format_metrics

__all__ = [
    "coco_results",
    "evaluate_coco",
    "format_metrics",
]
