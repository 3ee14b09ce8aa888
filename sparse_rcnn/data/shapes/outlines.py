"""The outline of each class of drawn shapes."""

import numpy as np

__all__ = ["OUTLINES"]


def _round(radii: list[float], corners: int) -> np.ndarray:
    angles = np.linspace(0, 2 * np.pi, corners, endpoint=False)
    radius = np.resize(radii, corners)
    return np.stack([radius * np.cos(angles), radius * np.sin(angles)], axis=1)


# The outer polygon and the holes of each class, around the origin. Their size does not matter.
OUTLINES: dict[str, list[np.ndarray]] = {
    "circle": [_round([1.0], 64)],
    "square": [np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)], dtype=float)],
    "triangle": [_round([1.0], 3)],
    "star": [_round([1.0, 0.42], 10)],
    "ring": [_round([1.0], 64), _round([0.55], 64)],
    "cross": [
        np.array(
            [
                *[(1, 3), (1, 1), (3, 1), (3, -1), (1, -1), (1, -3)],
                *[(-1, -3), (-1, -1), (-3, -1), (-3, 1), (-1, 1), (-1, 3)],
            ],
            dtype=float,
        )
    ],
}
