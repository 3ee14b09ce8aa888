"""COCO's average precision and recall, and what a detector does well and badly."""

from sparse_rcnn.data.evaluation.analysis import Analysis, analyse
from sparse_rcnn.data.evaluation.calibration import Calibration
from sparse_rcnn.data.evaluation.class_figures import ClassFigures
from sparse_rcnn.data.evaluation.coco_metrics import EVALUATORS, evaluate_coco, format_metrics
from sparse_rcnn.data.evaluation.coco_results import coco_results
from sparse_rcnn.data.evaluation.confusion import Confusion
from sparse_rcnn.data.evaluation.crowdhuman_metrics import evaluate_crowdhuman
from sparse_rcnn.data.evaluation.error_kinds import ERROR_KINDS, ErrorKinds
from sparse_rcnn.data.evaluation.flat_boxes import EvaluatedBoxes, FoundBoxes, TruthBoxes
from sparse_rcnn.data.evaluation.lvis_metrics import evaluate_lvis
from sparse_rcnn.data.evaluation.matching import Match
from sparse_rcnn.data.evaluation.recall_groups import RecallGroups
from sparse_rcnn.data.evaluation.score_curves import BestScore, ScoreCurves

__all__ = [
    "ERROR_KINDS",
    "EVALUATORS",
    "Analysis",
    "BestScore",
    "Calibration",
    "ClassFigures",
    "Confusion",
    "ErrorKinds",
    "EvaluatedBoxes",
    "FoundBoxes",
    "Match",
    "RecallGroups",
    "ScoreCurves",
    "TruthBoxes",
    "analyse",
    "coco_results",
    "evaluate_coco",
    "evaluate_crowdhuman",
    "evaluate_lvis",
    "format_metrics",
]
