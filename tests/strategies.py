"""Hypothesis strategies of all tests: boxes of every kind, image sizes and small sets of targets.

Coordinates lie on a grid of 1/8 px: sums, differences and products by powers of two are exact in float64,
so that edges touch exactly and moved boxes keep their size to the last bit.
"""

from typing import NamedTuple

import torch
from hypothesis import strategies as st
from torch import Tensor

LIMIT = 2000  # px
HUGE = 2**30  # px


class TargetSet(NamedTuple):
    """Padded targets of a batch: boxes [B, M, 4], labels [B, M], valid [B, M]."""

    boxes: Tensor
    labels: Tensor
    valid: Tensor


def coordinates(low: float = -LIMIT, high: float = LIMIT) -> st.SearchStrategy[float]:
    return st.integers(int(low * 8), int(high * 8)).map(lambda eighths: eighths / 8)


@st.composite
def boxes_of(draw, x, y, width, height) -> list[float]:
    left, top = draw(x), draw(y)
    return [left, top, left + draw(width), top + draw(height)]


def ordinary_boxes() -> st.SearchStrategy[list[float]]:
    """Boxes of positive width and height. Coordinates are often small, so that edges coincide."""
    position = st.one_of(coordinates(0, 4), coordinates())
    size = st.one_of(coordinates(1 / 8, 4), coordinates(1 / 8))
    return boxes_of(position, position, size, size)


def degenerate_boxes() -> st.SearchStrategy[list[float]]:
    """Lines and points."""
    position, size, nothing = coordinates(0, 4), coordinates(0, 4), st.just(0.0)
    return st.one_of(
        boxes_of(position, position, nothing, size),
        boxes_of(position, position, size, nothing),
        boxes_of(position, position, nothing, nothing),
    )


def swapped_boxes() -> st.SearchStrategy[list[float]]:
    """Boxes whose first corner lies right of or below the second."""
    position, size, negative = coordinates(0, 8), coordinates(0, 8), coordinates(-8, -1 / 8)
    return st.one_of(
        boxes_of(position, position, negative, size),
        boxes_of(position, position, size, negative),
        boxes_of(position, position, negative, negative),
    )


def huge_boxes() -> st.SearchStrategy[list[float]]:
    position, size = coordinates(-HUGE, HUGE), coordinates(LIMIT, HUGE)
    return boxes_of(position, position, size, size)


def upright_boxes() -> st.SearchStrategy[list[float]]:
    """Boxes without swapped corners, empty ones among them."""
    return st.one_of(ordinary_boxes(), degenerate_boxes(), huge_boxes())


def any_boxes() -> st.SearchStrategy[list[float]]:
    return st.one_of(ordinary_boxes(), degenerate_boxes(), swapped_boxes(), huge_boxes())


def box_sets(box=None, min_size: int = 0, max_size: int = 6) -> st.SearchStrategy[Tensor]:
    """[N, 4] float64, by default of any kind and possibly empty."""
    boxes = st.lists(any_boxes() if box is None else box, min_size=min_size, max_size=max_size)
    return boxes.map(lambda rows: torch.tensor(rows, dtype=torch.float64).reshape(-1, 4))


@st.composite
def box_pairs(draw, box=None, min_size: int = 0, max_size: int = 6) -> tuple[Tensor, Tensor]:
    """Two sets of as many boxes, both [N, 4] float64."""
    first = draw(box_sets(box, min_size, max_size))
    return first, draw(box_sets(box, len(first), len(first)))


@st.composite
def touching_pairs(draw) -> tuple[Tensor, Tensor]:
    """Two boxes, both [4] float64, that share an edge or a corner and no area."""
    first = draw(boxes_of(*[coordinates(-64, 64)] * 2, *[coordinates(1 / 8, 64)] * 2))
    width, height = draw(coordinates(1 / 8, 64)), draw(coordinates(1 / 8, 64))
    left, top, right, bottom = first
    second = draw(
        st.sampled_from(
            [
                [right, top, right + width, top + height],
                [left - width, top, left, top + height],
                [left, bottom, left + width, bottom + height],
                [left, top - height, left + width, top],
                [right, bottom, right + width, bottom + height],
                [left - width, top - height, left, top],
            ]
        )
    )
    return torch.tensor(first, dtype=torch.float64), torch.tensor(second, dtype=torch.float64)


def image_sizes(batch: int, low: int = 1, high: int = 1333) -> st.SearchStrategy[Tensor]:
    """[B, 2] int64, (height, width)."""
    side = st.integers(low, high)
    return st.lists(st.tuples(side, side), min_size=batch, max_size=batch).map(
        lambda sizes: torch.tensor(sizes, dtype=torch.int64).reshape(batch, 2)
    )


def seeds() -> st.SearchStrategy[int]:
    """For inputs that are numbers without structure, such as logits and features."""
    return st.integers(0, 2**31)


@st.composite
def target_sets(draw, batch: int, num_classes: int, max_targets: int = 4, side: int = 64) -> TargetSet:
    """Targets inside an image of ``side`` px: any number of them, padding anywhere, possibly none at all.

    Padding is what no reader would write: a NaN box and a label outside of the classes.
    """
    count = draw(st.integers(0, max_targets))
    box = boxes_of(*[coordinates(0, side / 2)] * 2, *[coordinates(1, side / 2)] * 2)
    boxes = draw(box_sets(box, batch * count, batch * count)).reshape(batch, count, 4)
    labels = draw(st.lists(st.integers(0, num_classes - 1), min_size=batch * count, max_size=batch * count))
    valid = draw(st.lists(st.booleans(), min_size=batch * count, max_size=batch * count))
    labels = torch.tensor(labels, dtype=torch.int64).reshape(batch, count)
    valid = torch.tensor(valid, dtype=torch.bool).reshape(batch, count)
    boxes = boxes.masked_fill(~valid[..., None], float("nan"))
    return TargetSet(boxes, labels.masked_fill(~valid, num_classes + 7), valid)
