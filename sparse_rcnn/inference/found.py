"""One object that a detector found."""

from typing import NamedTuple

__all__ = ["Found"]


class Found(NamedTuple):
    """One object that was found.

    Attributes:
        box: (x1, y1, x2, y2) in pixels of the photo.
        score: Its score in 0..1.
        label: Its label in 0..K-1.
        name: The name of its class.

    Example:
        >>> Found((9.0, 9.0, 90.0, 90.0), 0.8, 1, "dog").name
        'dog'
    """

    box: tuple[float, float, float, float]
    score: float
    label: int
    name: str
