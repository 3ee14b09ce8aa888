"""Segmentations of COCO files: the boxes around them."""

from typing import Any

import numpy as np

from sparse_rcnn.data.formats.coco_fields import is_number

__all__ = ["box_around"]


def box_around(segmentation: Any) -> list[float] | None:
    """The box around a segmentation.

    Args:
        segmentation: Polygons, or a run-length mask, as in the field of that name.

    Returns:
        (x, y, width, height) in pixels. None if it is neither, or empty.
    """
    if isinstance(segmentation, list) and segmentation:
        polygons = segmentation if isinstance(segmentation[0], list) else [segmentation]
        points = [value for polygon in polygons if isinstance(polygon, list) for value in polygon]
        if len(points) < 6 or len(points) % 2 or not all(map(is_number, points)):
            return None
        xs, ys = points[::2], points[1::2]
        return [min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)]
    try:
        height, counts = int(segmentation["size"][0]), segmentation["counts"]
        ends = np.cumsum(counts if isinstance(counts, list) else _run_lengths(counts))
    except (KeyError, TypeError, ValueError, IndexError):
        return None
    first, last = ends[0:-1:2], ends[1::2] - 1  # pixels, column by column
    first, last = first[last >= first], last[last >= first]
    if not len(first) or height < 1:
        return None
    left, right = int(first.min()) // height, int(last.max()) // height
    whole = (first // height != last // height).any()  # a run over the end of a column
    top, bottom = (0, height - 1) if whole else (int((first % height).min()), int((last % height).max()))
    return [float(side) for side in (left, top, right - left + 1, bottom - top + 1)]


def _run_lengths(text: str) -> list[int]:
    """COCO's compressed run lengths: five bits a character, differences from the fourth on."""
    counts: list[int] = []
    number = shift = 0
    for sign in text:
        bits = ord(sign) - 48
        number |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            number -= (1 << shift) if bits & 16 else 0
            counts.append(number + (counts[-2] if len(counts) > 2 else 0))
            number = shift = 0
    return counts
