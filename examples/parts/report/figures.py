"""The figures of one detector as the page shows them."""

import math
from typing import Any

import numpy as np

from parts.report.packing import packed_shares
from sparse_rcnn.data import Analysis
from sparse_rcnn.data.evaluation.recall_groups import RecallGroups

SIZES = {"s": "small", "m": "medium", "l": "large"}


def figures_of(analysis: Analysis, metrics: dict[str, float]) -> dict[str, Any]:
    """All figures but the boxes.

    Args:
        analysis: Of the whole data set.
        metrics: COCO's figures; without them, AP, AP50 and AP75 are those of the analysis.
    """
    classes, overall = analysis.classes, analysis.overall_curves
    return {
        "threshold": best_threshold(overall.f1, overall.thresholds),
        "figures": _summary(analysis, metrics),
        "classes": {
            "AP": _rounded(classes.ap),
            "AP50": _rounded(classes.ap50),
            "AP75": _rounded(classes.ap75),
            "F1": _rounded(classes.f1),
            "threshold": _rounded(classes.threshold),
        },
        "curves": {
            name: packed_shares(
                np.concatenate([getattr(analysis.curves, name).ravel(), getattr(overall, name)])
            )
            for name in ("precision", "recall")
        },
        "errors": [
            {"name": name, "value": float(gain), "count": int(count)}
            for name, gain, count in zip(
                analysis.errors.names, analysis.errors.gains, analysis.shown_errors.counts, strict=True
            )
        ],
        "calibration": {
            "scores": _rounded(analysis.calibration.score),
            "right": _rounded(analysis.calibration.right),
            "error": analysis.calibration.error,
        },
        "by_size": _groups(analysis.recall_by_size),
        "by_number": _groups(analysis.recall_by_count),
    }


def best_threshold(f1: np.ndarray, thresholds: np.ndarray) -> float:
    """Of the thresholds that the page can show, the highest one of the best F1; 0.5 if there is none."""
    best = np.nan_to_num(f1).max()
    return float(thresholds[np.flatnonzero(f1 == best)[-1]]) if best > 0 else 0.5


def _summary(analysis: Analysis, metrics: dict[str, float]) -> list[list[tuple[str, float, bool]]]:
    """COCO's figures; then those of the threshold and of the data. Name, value, whether it counts."""
    own = {"AP": analysis.ap, "AP50": analysis.ap50, "AP75": analysis.ap75}
    coco = {
        _in_words(name): value for name, value in metrics.items() if "/" not in name and name[:2] in "AP AR"
    }
    best = analysis.best
    others = {
        "best F1": best.f1,
        "score of the best F1": best.threshold,
        "precision there": best.precision,
        "recall there": best.recall,
        "calibration error": analysis.calibration.error,
    }
    numbers = {
        "photos": len(analysis.boxes.image_ids),
        "objects": int(analysis.classes.objects.sum()),
        "boxes of any score": len(analysis.boxes.found.score),
    }
    first = [(name, value, False) for name, value in (coco or own).items()]
    second = [(name, value, False) for name, value in others.items()]
    return [first, [*second, *((name, value, True) for name, value in numbers.items())]]


def _in_words(name: str) -> str:
    """APs is "AP, small objects"; AR10 is "AR, 10 boxes a photo"; AP50 stays."""
    if name[-1] in SIZES:
        return f"{name[:2]}, {SIZES[name[-1]]} objects"
    if name.startswith("AR"):
        return f"AR, {name[2:]} box{'es' if name != 'AR1' else ''} a photo"
    return name


def _groups(groups: RecallGroups) -> list[dict[str, Any]]:
    rows = zip(groups.names, groups.recall_at_threshold, groups.objects, strict=True)
    return [{"name": name, "value": float(recall), "count": int(count)} for name, recall, count in rows]


def _rounded(values: np.ndarray) -> list[float]:
    return [value if math.isnan(value) else round(value, 4) for value in values.tolist()]
