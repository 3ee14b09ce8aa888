"""Precision, recall and F1 over the score from which a detection counts, and the score of the best F1."""

from typing import NamedTuple

import numpy as np

from sparse_rcnn.data.evaluation.average_precision import RankedClasses
from sparse_rcnn.data.evaluation.matching import Match

__all__ = ["THRESHOLDS", "BestScore", "ScoreCurves", "best_score", "score_curves"]

THRESHOLDS = np.arange(101) / 100  # not linspace: its 0.07 is above the number that "0.07" means


class ScoreCurves(NamedTuple):
    """Figures of the detections with a score of at least each threshold.

    Attributes:
        thresholds: [S] the scores 0, 0.01, ..., 1.
        precision: [K, S] by class, or [S] of all together. NaN where there is no detection.
        recall: [K, S] or [S]. NaN for a class without objects.
        f1: [K, S] or [S]: 2 right / (detections + objects). NaN for a class without objects.
    """

    thresholds: np.ndarray
    precision: np.ndarray
    recall: np.ndarray
    f1: np.ndarray


class BestScore(NamedTuple):
    """The score with the best F1, and the figures of the detections from there. NaN without objects.

    Attributes:
        threshold: The score. Of equally good ones, the highest.
        precision: Of the detections from this score on.
        recall: The share of the objects that these find.
        f1: 2 precision recall / (precision + recall).
    """

    threshold: float
    precision: float
    recall: float
    f1: float


def score_curves(
    ranked: RankedClasses, match: Match, score: np.ndarray
) -> tuple[ScoreCurves, list[BestScore], ScoreCurves, BestScore]:
    """Curves and best scores by class, and of all classes together (every detection counts the same).

    Args:
        ranked: The detections by class.
        match: What they find.
        score: [D] of the detections.
    """
    by_class, best = [], []
    for label, objects in enumerate(ranked.objects.tolist()):
        part = ranked.order[ranked.first[label] : ranked.first[label + 1]]
        by_class.append(_curve(match.right[part], match.wrong[part], score[part], objects))
        best.append(best_score(match.right[part], match.wrong[part], score[part], objects))
    order = np.argsort(-score, kind="stable")
    everything = match.right[order], match.wrong[order], score[order], int(ranked.objects.sum())
    columns = np.array(by_class).reshape(-1, 3, len(THRESHOLDS))
    return (
        ScoreCurves(THRESHOLDS, columns[:, 0], columns[:, 1], columns[:, 2]),
        best,
        ScoreCurves(THRESHOLDS, *_curve(*everything)),
        best_score(*everything),
    )


def best_score(right: np.ndarray, wrong: np.ndarray, score: np.ndarray, objects: int) -> BestScore:
    """The score with the best F1, from detections by falling score."""
    if objects == 0 or not (right | wrong).any():
        return BestScore(np.nan, np.nan, 0.0 if objects else np.nan, 0.0 if objects else np.nan)
    hits, misses = np.cumsum(right), np.cumsum(wrong)
    f1 = 2 * hits / (hits + misses + objects)
    last = np.append(score[1:] != score[:-1], True)  # equal scores count together
    place = int(np.argmax(np.where(last & (hits + misses > 0), f1, -1.0)))
    precision = hits[place] / (hits[place] + misses[place])
    return BestScore(float(score[place]), float(precision), float(hits[place] / objects), float(f1[place]))


def _curve(
    right: np.ndarray, wrong: np.ndarray, score: np.ndarray, objects: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Precision, recall and F1 [S] of detections by falling score."""
    count = np.searchsorted(-score, -THRESHOLDS, side="right")  # [S] detections from each threshold on
    hits, misses = np.append(0, np.cumsum(right))[count], np.append(0, np.cumsum(wrong))[count]
    with np.errstate(divide="ignore", invalid="ignore"):
        precision, recall = hits / (hits + misses), hits / np.float64(objects)
        f1 = 2 * hits / (hits + misses + np.float64(objects)) if objects else recall
    return precision, recall, f1
