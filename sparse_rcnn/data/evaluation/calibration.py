"""How often detections of a score are right: reliability by bins, and the expected calibration error.

ECE = sum over bins of n_b / n · |right_b - score_b|, with the share of right detections and the mean score of
a bin (Guo et al., "On Calibration of Modern Neural Networks", section 2).
"""

from typing import NamedTuple

import numpy as np

from sparse_rcnn.data.evaluation.matching import Match

__all__ = ["Calibration", "calibration"]


class Calibration(NamedTuple):
    """Reliability of the scores.

    Attributes:
        edges: [B + 1] the bounds of the bins. A bin holds its lower bound; the last one both.
        detections: [B] int64, how many each bin has.
        score: [B] their mean score, NaN in an empty bin.
        right: [B] the share that is right, NaN in an empty bin.
        error: The expected calibration error, NaN without detections.
    """

    edges: np.ndarray
    detections: np.ndarray
    score: np.ndarray
    right: np.ndarray
    error: float


def calibration(match: Match, score: np.ndarray, bins: int = 10) -> Calibration:
    """The reliability of the detections that are not ignored.

    Args:
        match: What the detections find.
        score: [D] in 0..1.
        bins: Number of bins of equal width.
    """
    counted = ~match.ignored
    score, right = score[counted], match.right[counted]
    edges = np.arange(bins + 1) / bins
    place = (np.searchsorted(edges, score, side="right") - 1).clip(0, bins - 1)
    count = np.bincount(place, minlength=bins)
    with np.errstate(invalid="ignore"):
        mean = np.bincount(place, score, minlength=bins) / count
        share = np.bincount(place, right, minlength=bins) / count
    gaps = np.nansum(count * np.abs(share - mean))
    return Calibration(edges, count, mean, share, float(gaps / len(score)) if len(score) else np.nan)
