"""Which detection finds which annotated box: COCO's greedy choice, for all images at once.

Pairs are taken in an order of preference. A pair is taken if its detection and its box are both free. This
gives the same as a loop over detections that looks for the best free box, if the pairs of a better detection
come first.
"""

from typing import NamedTuple

import numpy as np

from sparse_rcnn.data.evaluation.flat_boxes import EvaluatedBoxes
from sparse_rcnn.data.evaluation.overlaps import Pairs

__all__ = ["Match", "match_by_class", "take_greedily"]


class Match(NamedTuple):
    """What each detection finds.

    Attributes:
        truth: [D] int64, index of the annotated box, -1 if there is none.
        ignored: [D] bool, it lies in a crowd region (and counts neither as right nor as wrong).
    """

    truth: np.ndarray
    ignored: np.ndarray

    @property
    def right(self) -> np.ndarray:
        """[D] bool: whether a detection finds an object."""
        return (self.truth >= 0) & ~self.ignored

    @property
    def wrong(self) -> np.ndarray:
        """[D] bool: whether a detection finds no object and is not ignored."""
        return (self.truth < 0) & ~self.ignored


def take_greedily(found: np.ndarray, truth: np.ndarray, endless: np.ndarray) -> np.ndarray:
    """Takes pairs in their order, each detection and each box once.

    Args:
        found: [P] index of the detection, pairs in order of preference.
        truth: [P] index of the box.
        endless: [P] bool, the box may be taken any number of times (a crowd region).

    Returns:
        [T] the places of the pairs that are taken, ascending.
    """
    taken = []
    left = np.arange(len(found))
    found_place = np.empty(int(found.max()) + 1 if len(found) else 0, dtype=np.int64)
    truth_place = np.empty(int(truth.max()) + 1 if len(truth) else 0, dtype=np.int64)
    while len(left):
        # Where an index comes twice, the last value stays: from the back, that is the first pair.
        backwards = left[::-1]
        found_place[found[backwards]] = backwards
        truth_place[truth[backwards]] = backwards
        # First for both: nothing that is still undecided can come before it.
        now = left[(found_place[found[left]] == left) & (endless[left] | (truth_place[truth[left]] == left))]
        taken.append(now)
        found_free = np.ones(len(found_place), dtype=bool)
        truth_free = np.ones(len(truth_place), dtype=bool)
        found_free[found[now]] = False
        truth_free[truth[now[~endless[now]]]] = False
        left = left[found_free[found[left]] & truth_free[truth[left]]]
    return np.sort(np.concatenate(taken)) if taken else left


def match_by_class(
    boxes: EvaluatedBoxes, pairs: Pairs, iou: float, ignored: np.ndarray | None = None
) -> Match:
    """Matches as pycocotools: within a class, the better score first.

    Args:
        boxes: Ground truth and detections.
        pairs: The overlapping pairs, from an IoU not above `iou`.
        iou: The IoU from which a box is found.
        ignored: [G] bool, boxes that are ignored; crowd regions by default.

    Returns:
        The match. Of equal IoU, the later box is found, as there.
    """
    ignored = boxes.truth.crowd if ignored is None else ignored
    same = boxes.found.label[pairs.found] == boxes.truth.label[pairs.truth]
    kept = pairs.chosen(same & (pairs.iou >= min(iou, 1 - 1e-10)))
    # Detections of an image are ordered by score already.
    kept = kept.chosen(np.lexsort((-kept.truth, -kept.iou, ignored[kept.truth], kept.found)))
    taken = kept.chosen(take_greedily(kept.found, kept.truth, boxes.truth.crowd[kept.truth]))
    truth = np.full(len(boxes.found.score), -1, dtype=np.int64)
    truth[taken.found] = taken.truth
    on_ignored = np.zeros(len(truth), dtype=bool)
    on_ignored[taken.found] = ignored[taken.truth]
    return Match(truth, on_ignored)
