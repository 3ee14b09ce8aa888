"""Draws textured shapes on textured backgrounds. Each image is a pure function of (seed, split, index)."""

from colorsys import hsv_to_rgb
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from sparse_rcnn.data.shapes.outlines import OUTLINES
from sparse_rcnn.data.shapes.textures import draw_texture

__all__ = [
    "CLASS_NAMES",
    "DRAWING_VERSION",
    "HUE_SPREAD",
    "LARGEST_SIDE",
    "LEAST_VISIBLE",
    "MOST_COVERED",
    "PLACEMENTS",
    "SHRINKING",
    "SIDE_EXPONENT",
    "SMALLEST_SIDE",
    "SPLITS",
    "SUPERSAMPLING",
    "Mask",
    "Shape",
    "draw_shapes",
]

DRAWING_VERSION = 1  # raise it whenever the drawings change: data sets on disk store it
CLASS_NAMES = ("circle", "square", "triangle", "star", "ring", "cross")
SPLITS = {"train": 0, "val": 1}

SMALLEST_SIDE = 20.0  # sqrt of a shape's area in pixels, in any image. COCO calls < 32 small.
LARGEST_SIDE = 0.95  # of the image's shorter side: up to 121 of 128 pixels. COCO calls > 96 large.
SIDE_EXPONENT = 1.3  # above 1, small sides are more frequent, so several shapes fit into an image
MOST_COVERED = 0.2  # the largest part of a box that other boxes may cover
LEAST_VISIBLE = 0.8  # the smallest part of a shape's pixels that must be visible
PLACEMENTS = 12  # tries to place a shape before it is left out
SHRINKING = 0.9  # a shape's side is multiplied by it after each try: the first shape always fits
SUPERSAMPLING = 4
# Each class has a sixth of the hue circle and uses this part of it. Outline and hue both show the class, so
# a small model learns the classes in minutes.
HUE_SPREAD = 0.75


class Shape(NamedTuple):
    """One drawn shape.

    Attributes:
        label: Its label.
        box: (x1, y1, x2, y2) of the complete shape in pixels.
        area: The area of the complete shape in pixels.
    """

    label: int
    box: tuple[float, float, float, float]
    area: float


def draw_shapes(
    seed: int, split: str, index: int, image_size: int, max_objects: int
) -> tuple[np.ndarray, list[Shape]]:
    """Draws one image.

    Boxes and areas are those of the complete shape, exact to a quarter of a pixel, even if another shape
    hides a part of it. At least four fifths of every shape and of its box stay free.

    Args:
        seed: The seed of the data set.
        split: "train" or "val".
        index: The index of the image in its split.
        image_size: The longest side in pixels. Both sides are random, from 0.8 to 1.0 of it.
        max_objects: The number of shapes is random, from 1 to this. Shapes that do not fit are left out.

    Returns:
        The image, [H, W, 3] uint8, and its shapes (at least one) in the order of drawing.
    """
    random = np.random.default_rng([seed, SPLITS[split], index])
    height, width = (int(side) for side in random.integers(round(0.8 * image_size), image_size + 1, size=2))
    colours = [random.uniform(0.15, 0.85) + random.uniform(-0.1, 0.1, 3)]  # a greyish background
    canvas = draw_texture(random, height, width, colours[0], amplitude=0.15, period=(10.0, 30.0))  # [H, W, 3]

    shapes: list[Shape] = []
    masks: list[Mask] = []
    hidden_boxes: list[float] = []  # the part of each box that later boxes cover
    owner = np.full((height, width), -1, dtype=np.int8)  # which shape is on top at each pixel
    for _ in range(int(random.integers(1, max_objects + 1))):
        # Choose class and size before the tries. Otherwise shapes that fit easily would be more frequent.
        label = int(random.integers(len(CLASS_NAMES)))
        largest = LARGEST_SIDE * min(height, width)
        side = SMALLEST_SIDE + (largest - SMALLEST_SIDE) * random.random() ** SIDE_EXPONENT
        for shrunk in SHRINKING ** np.arange(PLACEMENTS):
            outlines = _pose(random, height, width, label, side * shrunk)
            if outlines is None:
                continue
            extent = (*outlines[0].min(axis=0), *outlines[0].max(axis=0))
            covered = [
                hidden + _overlap(extent, below.box)
                for hidden, below in zip(hidden_boxes, shapes, strict=True)
            ]
            if any(part > MOST_COVERED for part in covered):
                continue
            shape, mask = _draw_mask(label, outlines)
            patch = np.where(mask.alpha > 0.5, len(shapes), owner[mask.rows, mask.columns])
            if _leaves_visible(owner, mask, patch, masks):
                break
        else:
            continue
        owner[mask.rows, mask.columns] = patch
        shapes.append(shape)
        masks.append(mask)
        hidden_boxes = [*covered, 0.0]
        colours.append(_class_colour(random, label, colours))
        tall, wide = mask.alpha.shape
        filling = draw_texture(random, tall, wide, colours[-1], amplitude=0.25, period=(5.0, 12.0))
        canvas[mask.rows, mask.columns] += mask.alpha[:, :, None] * (
            filling - canvas[mask.rows, mask.columns]
        )

    noise = random.standard_normal(canvas.shape, dtype=np.float32)
    canvas += np.float32(random.uniform(0.01, 0.03)) * noise
    return (canvas.clip(0, 1) * 255 + 0.5).astype(np.uint8), shapes


class Mask(NamedTuple):
    """The place of a shape in the image.

    Attributes:
        rows: The rows of its box.
        columns: The columns of its box.
        alpha: [rows, columns] float32 in 0..1, the part of each pixel that the shape covers.
    """

    rows: slice
    columns: slice
    alpha: np.ndarray


def _pose(
    random: np.random.Generator, height: int, width: int, label: int, side: float
) -> list[np.ndarray] | None:
    """Outlines (x, y) with an area of side * side pixels at a random place, or None if they do not fit."""
    aspect, angle = np.exp(random.uniform(-0.3, 0.3)), random.uniform(0, 2 * np.pi)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    outlines = [(points * [aspect, 1 / aspect]) @ turn.T for points in OUTLINES[CLASS_NAMES[label]]]
    solid = _polygon_area(outlines[0]) - sum(_polygon_area(hole) for hole in outlines[1:])
    outlines = [points * side / np.sqrt(solid) for points in outlines]
    low, high = outlines[0].min(axis=0), outlines[0].max(axis=0)
    room = np.array([width, height]) - (high - low) - 1  # one pixel less: PIL draws outlines slightly larger
    if (room < 0).any():
        return None
    corner = random.uniform(0, 1, 2) * room
    return [points - low + corner for points in outlines]


def _draw_mask(label: int, outlines: list[np.ndarray]) -> tuple[Shape, Mask]:
    left, top = np.floor(outlines[0].min(axis=0)).astype(int)
    right, bottom = np.ceil(outlines[0].max(axis=0) + 0.5).astype(int)
    patch = Image.new("L", ((right - left) * SUPERSAMPLING, (bottom - top) * SUPERSAMPLING))
    draw = ImageDraw.Draw(patch)
    for number, points in enumerate(outlines):
        corners = ((points - [left, top]) * SUPERSAMPLING).tolist()
        draw.polygon([(x, y) for x, y in corners], fill=0 if number else 255)
    fine = np.asarray(patch) > 0
    across, down = np.flatnonzero(fine.any(axis=0)), np.flatnonzero(fine.any(axis=1))
    box = (
        float(left + across[0] / SUPERSAMPLING),
        float(top + down[0] / SUPERSAMPLING),
        float(left + (across[-1] + 1) / SUPERSAMPLING),
        float(top + (down[-1] + 1) / SUPERSAMPLING),
    )
    area = float(np.count_nonzero(fine)) / SUPERSAMPLING**2
    alpha = np.asarray(patch.reduce(SUPERSAMPLING), dtype=np.float32) / 255
    return Shape(label, box, area), Mask(slice(top, bottom), slice(left, right), alpha)


def _leaves_visible(owner: np.ndarray, mask: Mask, patch: np.ndarray, masks: list[Mask]) -> bool:
    """Whether enough pixels of every shape below stay visible."""
    after = owner.copy()
    after[mask.rows, mask.columns] = patch
    return all(
        np.count_nonzero(after[below.rows, below.columns] == number)
        >= LEAST_VISIBLE * np.count_nonzero(below.alpha > 0.5)
        for number, below in enumerate(masks)
    )


def _overlap(box: tuple[float, ...], below: tuple[float, ...]) -> float:
    """The part of `below` that `box` covers."""
    width = min(box[2], below[2]) - max(box[0], below[0])
    height = min(box[3], below[3]) - max(box[1], below[1])
    return max(width, 0.0) * max(height, 0.0) / ((below[2] - below[0]) * (below[3] - below[1]))


def _class_colour(random: np.random.Generator, label: int, colours: list[np.ndarray]) -> np.ndarray:
    """A strong colour from the class's part of the hue circle, far from all colours in the image."""
    hues = (label + HUE_SPREAD * random.uniform(-0.5, 0.5, 8)) / len(CLASS_NAMES)
    saturations, values = random.uniform(0.6, 1.0, 8), random.uniform(0.45, 1.0, 8)
    candidates = np.array([hsv_to_rgb(*hsv) for hsv in zip(hues % 1.0, saturations, values, strict=True)])
    distances = np.linalg.norm(candidates[:, None] - np.array(colours), axis=2)  # [8, colours]
    return candidates[np.argmax(distances.min(axis=1))]


def _polygon_area(points: np.ndarray) -> float:
    x, y = points.T
    return 0.5 * abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1)))
