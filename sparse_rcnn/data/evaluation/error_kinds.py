"""What kinds of error a detector makes, and how much AP50 repairing each kind would gain.

The six kinds of Bolya et al., "TIDE: A General Toolbox for Identifying Object Detection Errors", section 2.2.
A detection that finds no object is, by the first line that holds, an error of

    localisation  0.1 <= IoU <= 0.5 with an object of its class
    class         IoU >= 0.5 with an object of another class
    duplicate     IoU >= 0.5 with an object of its class that a better detection found
    background    IoU <= 0.1 with every object
    both          any other

An object is missed if no detection finds it, and repairing none of the first two kinds would find it. To
repair a kind: class and localisation errors become right (of several on one object, the best; the others are
removed), the other detections are removed, and missed objects are no longer counted.
"""

from typing import NamedTuple

import numpy as np

from sparse_rcnn.data.evaluation.average_precision import class_precision
from sparse_rcnn.data.evaluation.flat_boxes import EvaluatedBoxes
from sparse_rcnn.data.evaluation.matching import Match
from sparse_rcnn.data.evaluation.overlaps import Pairs

__all__ = ["ERROR_KINDS", "LEAST_IOU", "ErrorKinds", "error_kinds"]

ERROR_KINDS = ("class", "localisation", "both", "duplicate", "background", "missed")
LEAST_IOU = 0.1  # below it, a detection is on background
_CLASS, _LOCALISATION, _BOTH, _DUPLICATE, _BACKGROUND, _MISSED = range(6)


class ErrorKinds(NamedTuple):
    """The errors of all detections, of any score.

    Attributes:
        names: The six kinds: class, localisation, both, duplicate, background, missed.
        counts: [6] int64, errors of each kind.
        class_counts: [K, 6] int64, by the class of the detection, and of the missed object.
        gains: [6] what AP (at the match's IoU, mean over classes) gains if all errors of one kind are
            repaired. It is at least 0.
        kind: [D] int64, index of the kind of each detection; -1 if it is right or ignored.
        truth: [D] int64, the object that a class, localisation or duplicate error is about, or -1.
        missed: [G] bool, the missed objects.
    """

    names: tuple[str, ...]
    counts: np.ndarray
    class_counts: np.ndarray
    gains: np.ndarray
    kind: np.ndarray
    truth: np.ndarray
    missed: np.ndarray


def error_kinds(boxes: EvaluatedBoxes, pairs: Pairs, match: Match, iou: float) -> ErrorKinds:
    """The kind of each error, and what repairing it gains.

    As in TIDE's own package, a detection that a crowd region excuses may still become right by a repair.

    Args:
        boxes: Ground truth and detections.
        pairs: The overlapping pairs, from an IoU of `LEAST_IOU`.
        match: What the detections find.
        iou: The IoU of the match.
    """
    num_classes, crowd = len(boxes.category_ids), boxes.truth.crowd
    taken = np.zeros(len(crowd), dtype=bool)  # [G]
    taken[match.truth[match.right]] = True
    kind, about = _kinds(boxes, pairs.chosen(~crowd[pairs.truth]), match, taken, iou)

    repairing = np.isin(kind, (_CLASS, _LOCALISATION)) & (about >= 0)
    repairing[repairing] = ~taken[about[repairing]]
    candidates = np.flatnonzero(repairing)
    repairable, first = np.unique(about[candidates], return_index=True)  # better scores come first
    missed = ~crowd & ~taken
    missed[repairable] = False
    becomes_right = np.zeros(len(kind), dtype=bool)
    becomes_right[candidates[first]] = True

    counted = np.where(match.ignored, -1, kind)
    class_counts = np.zeros((num_classes, len(ERROR_KINDS)), dtype=np.int64)
    np.add.at(class_counts, (boxes.found.label[counted >= 0], counted[counted >= 0]), 1)
    class_counts[:, _MISSED] = np.bincount(boxes.truth.label[missed], minlength=num_classes)
    gains = _gains(boxes, match, kind, about, becomes_right, class_counts[:, _MISSED])
    return ErrorKinds(
        ERROR_KINDS,
        class_counts.sum(0),
        class_counts,
        gains,
        counted,
        np.where(counted >= 0, about, -1),
        missed,
    )


def _kinds(
    boxes: EvaluatedBoxes, pairs: Pairs, match: Match, taken: np.ndarray, iou: float
) -> tuple[np.ndarray, np.ndarray]:
    """[D] the kind of error, -1 if right, and the object that it is about."""
    same = boxes.found.label[pairs.found] == boxes.truth.label[pairs.truth]
    size = len(boxes.found.score)
    own, own_at = _best(pairs.chosen(same), size)
    other, other_at = _best(pairs.chosen(~same), size)
    double, double_at = _best(pairs.chosen(same & taken[pairs.truth]), size)
    conditions = [
        match.right,
        (own >= LEAST_IOU) & (own <= iou),
        other >= iou,
        double >= iou,
        np.maximum(own, other) <= LEAST_IOU,
    ]
    kind = np.select(conditions, [-1, _LOCALISATION, _CLASS, _DUPLICATE, _BACKGROUND], _BOTH)
    about = np.select(
        [kind == _LOCALISATION, kind == _CLASS, kind == _DUPLICATE], [own_at, other_at, double_at], -1
    )
    return kind, about


def _best(pairs: Pairs, size: int) -> tuple[np.ndarray, np.ndarray]:
    """For each of `size` detections, its highest IoU (0 without a pair) and the box that has it (-1)."""
    pairs = pairs.chosen(np.lexsort((pairs.truth, -pairs.iou, pairs.found)))
    found, first = np.unique(pairs.found, return_index=True)
    highest, where = np.zeros(size), np.full(size, -1, dtype=np.int64)
    highest[found], where[found] = pairs.iou[first], pairs.truth[first]
    return highest, where


def _gains(
    boxes: EvaluatedBoxes,
    match: Match,
    kind: np.ndarray,
    about: np.ndarray,
    becomes_right: np.ndarray,
    missed: np.ndarray,
) -> np.ndarray:
    """[6] the AP that the repair of each kind gains."""
    objects = np.bincount(boxes.truth.label[~boxes.truth.crowd], minlength=len(missed))
    label, score = boxes.found.label, boxes.found.score
    base = _mean_ap(label, score, match.right, match.wrong, objects, objects)
    gains = []
    for each in range(len(ERROR_KINDS)):
        of_kind = kind == each
        right = match.right | (of_kind & becomes_right)
        labels = label
        if each == _CLASS:
            labels = label.copy()
            moved = of_kind & becomes_right
            labels[moved] = boxes.truth.label[about[moved]]
        left = objects - missed if each == _MISSED else objects
        repaired = _mean_ap(labels, score, right, match.wrong & ~of_kind, left, objects)
        gains.append(max(repaired - base, 0.0))
    return np.array(gains)


def _mean_ap(
    label: np.ndarray,
    score: np.ndarray,
    right: np.ndarray,
    wrong: np.ndarray,
    left: np.ndarray,
    objects: np.ndarray,
) -> float:
    """Mean AP of the classes with objects, of which `left` count; 0 where only detections are left."""
    counted = np.flatnonzero(right | wrong)
    order = counted[np.lexsort((-score[counted], label[counted]))]
    first = np.searchsorted(label[order], np.arange(len(objects) + 1))
    values = []
    for each in np.flatnonzero(objects).tolist():
        part = order[first[each] : first[each + 1]]
        if left[each]:
            values.append(class_precision(right[part], wrong[part], int(left[each])).mean())
        elif len(part):
            values.append(0.0)
    return float(np.mean(values)) if values else float("nan")
