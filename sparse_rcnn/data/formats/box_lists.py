"""Plain lists of images, boxes and labels, as a reader gives them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sparse_rcnn.data.formats.annotated_images import AnnotatedImages, make_objects
from sparse_rcnn.data.formats.flat import FlatStrings
from sparse_rcnn.data.formats.image_sizes import read_image_sizes
from sparse_rcnn.data.image_file import UnreadableImageError

__all__ = ["check_class_names", "images_from_lists"]


def images_from_lists(
    images: Sequence[str | Path], boxes: Sequence[Any], labels: Sequence[Any], class_names: Sequence[str]
) -> AnnotatedImages:
    """Images with boxes from plain lists; see `DetectionDataset.from_boxes`.

    Args:
        images: Image files.
        boxes: For each image, [M, 4] xyxy in pixels.
        labels: For each image, [M] integers or class names.
        class_names: The K names, by label.

    Raises:
        ValueError: Naming the image and the entry, if lengths, shapes or labels are wrong.
        UnreadableImageError: If an image cannot be read.
    """
    names = check_class_names(class_names)
    if not len(images) == len(boxes) == len(labels):
        raise ValueError(
            f"{len(images)} images came with {len(boxes)} entries of boxes and {len(labels)} of labels"
        )
    if not len(images):
        raise ValueError("the data set is empty: there are no images")
    label_of = {name: label for label, name in enumerate(names)}
    columns: list[np.ndarray] = [np.empty((0, 4))]
    image_indices: list[int] = []
    all_labels: list[int] = []
    for index, (path, some, kinds) in enumerate(zip(images, boxes, labels, strict=True)):
        corners = _corners(some, path)
        if not hasattr(kinds, "__len__"):
            raise ValueError(f"{path}: labels must be a list, got {kinds!r:.80}")
        if len(corners) != len(kinds):
            raise ValueError(f"{path}: {len(corners)} boxes came with {len(kinds)} labels")
        for number, kind in enumerate(kinds):
            label = label_of.get(kind, -1) if isinstance(kind, str) else _whole(kind)
            if not 0 <= label < len(names):
                raise ValueError(
                    f"{path}: label {number} must be one of {names} or 0..{len(names) - 1}, got {kind!r:.80}"
                )
            all_labels.append(label)
        image_indices += [index] * len(corners)
        columns.append(np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1))
    paths = FlatStrings(str(path) for path in images)
    sizes, problems = read_image_sizes(paths)
    if problems:
        first = next(iter(problems.values()))
        raise UnreadableImageError(f"{len(problems)} unusable image(s): {first}")
    written = np.concatenate(columns)
    objects = make_objects(image_indices, all_labels, written, [False] * len(written))

    def describe(index: int) -> str:
        x, y, width, height = written[index].tolist()
        image = image_indices[index]
        number = index - image_indices.index(image)
        return f"{paths[image]}: box {number}: xyxy {[x, y, x + width, y + height]}"

    ids = np.arange(1, len(paths) + 1)
    categories = list(range(1, len(names) + 1))
    return AnnotatedImages(paths, ids, sizes, names, categories, objects, describe, [])


def _corners(boxes: Any, path: str | Path) -> np.ndarray:
    """The boxes of an image, [M, 4] float64."""
    try:
        corners = np.asarray(boxes, dtype=np.float64) if len(boxes) else np.empty((0, 4))
    except (TypeError, ValueError):
        corners = np.empty(0)
    if corners.shape[-1] != 4:
        raise ValueError(f"{path}: boxes must be numbers [M, 4], got {str(boxes)[:80]}")
    return corners.reshape(-1, 4)


def _whole(value: Any) -> int:
    """A whole number, such as 1, 1.0 or an element of a tensor; -1 for all else."""
    try:
        number = int(value)
        return number if number == value else -1
    except (TypeError, ValueError, OverflowError):
        return -1


def check_class_names(class_names: Sequence[str]) -> list[str]:
    """The names as a list; raises ValueError unless they are distinct and at least one."""
    names = list(class_names)
    if not names or len({*names}) != len(names) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"class_names must be distinct and at least one, got {names}")
    return names
