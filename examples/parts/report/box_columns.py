"""The boxes of the page: the objects of the photos, and what a detector found, each with its kind."""

from typing import Any

import numpy as np

from parts.report.packing import packed, packed_shares
from sparse_rcnn.data import Analysis

# What becomes of a detection or an object: correct, or the errors of `analyse` in its order.
KINDS = ("correct", "class", "localisation", "both", "duplicate", "background", "missed")


def object_columns(analysis: Analysis, place: np.ndarray, sizes: np.ndarray) -> dict[str, str]:
    """The annotated objects without crowd regions.

    Args:
        analysis: Of the whole data set.
        place: [I] the place of each image on the page, -1 if it is not there.
        sizes: [P, 2] (height, width) of the photos of the page.
    """
    truth = analysis.boxes.truth
    kept = np.flatnonzero(~truth.crowd & (place[truth.image] >= 0))
    return _columns(place[truth.image[kept]], truth.label[kept], truth.boxes[kept], sizes)


def found_columns(
    analysis: Analysis, place: np.ndarray, sizes: np.ndarray, most: int
) -> tuple[dict[str, str], float]:
    """The detections, best first in a photo: the `most` best of all. What a crowd region excuses is left out.

    Returns:
        The columns, and the highest score that is left out (0 if none is).
    """
    found, match = analysis.boxes.found, analysis.match
    kept = np.flatnonzero(~match.ignored & (place[found.image] >= 0))
    by_score = kept[np.argsort(-found.score[kept], kind="stable")]
    left_out = float(found.score[by_score[most]]) if len(by_score) > most else 0.0
    kept = np.sort(by_score[:most])
    kind = np.where(match.right, 0, analysis.errors.kind + 1)
    about = np.where(match.right, match.truth, analysis.errors.truth)
    columns = {
        **_columns(place[found.image[kept]], found.label[kept], found.boxes[kept], sizes),
        "scores": packed_shares(found.score[kept]),
        "kinds": packed(kind[kept]),
        "objects": packed(_number_in_photo(analysis)[about[kept]]),
    }
    return columns, left_out


def _number_in_photo(analysis: Analysis) -> np.ndarray:
    """[G + 1] the number of each object in its photo, from 1; 0 for a crowd region, and for -1 at the end."""
    truth = analysis.boxes.truth
    counted = np.cumsum(~truth.crowd)
    before = np.append(0, counted)[np.searchsorted(truth.image, truth.image)]
    return np.append(np.where(truth.crowd, 0, counted - before), 0)


def _columns(photo: np.ndarray, label: np.ndarray, boxes: np.ndarray, sizes: np.ndarray) -> dict[str, Any]:
    """How many boxes each photo has, their labels, and their corners as shares of width and height."""
    corners = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)
    return {
        "counts": packed(np.bincount(photo, minlength=len(sizes))),
        "labels": packed(label),
        "boxes": packed_shares(corners / sides(sizes, photo)),
    }


def sides(sizes: np.ndarray, photo: np.ndarray) -> np.ndarray:
    """[N, 4] width, height, width, height of the photo of each box."""
    return sizes[photo][:, [1, 0, 1, 0]]
