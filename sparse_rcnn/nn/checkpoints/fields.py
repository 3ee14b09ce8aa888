"""What a checkpoint says besides weights and config: class names, category ids, image size."""

from collections.abc import Mapping
from reprlib import repr as short
from typing import Any

from sparse_rcnn.nn.image_size import LARGEST_SIDE, ImageSize

__all__ = ["checkpoint_class_names", "known_category_ids", "known_class_names", "known_image_size"]


def checkpoint_class_names(checkpoint: Mapping[str, Any]) -> list[str] | None:
    """The class names in a checkpoint, by label.

    Args:
        checkpoint: The content of a checkpoint file.

    Returns:
        The names. This library stores them under `"class_names"`, and mmdetection in `"meta"`. None if there
        are none, as in the authors' files.

    Raises:
        ValueError: If the entry is no list of strings.

    Example:
        >>> checkpoint_class_names({"class_names": ["cat", "dog"]})
        ['cat', 'dog']
    """
    names, where = checkpoint.get("class_names"), "class_names"
    meta = checkpoint.get("meta")
    if names is None and isinstance(meta, Mapping):
        data = meta.get("dataset_meta")
        names, where = meta.get("CLASSES"), "meta: the classes"
        if names is None and isinstance(data, Mapping):
            names = data.get("classes", data.get("CLASSES"))
    if names is None:
        return None
    if not isinstance(names, (list, tuple)) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"{where} must be a list of strings, got {short(names)}")
    return list(names)


def known_class_names(content: Mapping[str, Any], num_classes: int) -> list[str] | None:
    """The class names by label, or None. Raises ValueError unless there is one for each class."""
    names = checkpoint_class_names(content)
    if names is not None and len(names) != num_classes:
        raise ValueError(f"class_names has {len(names)} names, but the model has {num_classes} classes")
    return names


def known_category_ids(content: Mapping[str, Any], num_classes: int) -> list[int] | None:
    """The category ids by label, or None. Raises ValueError unless there is one for each class."""
    ids = content.get("category_ids")
    if ids is None:
        return None
    if not isinstance(ids, (list, tuple)) or not all(type(number) is int for number in ids):
        raise ValueError(f"category_ids must be a list of whole numbers, got {short(ids)}")
    if len(ids) != num_classes or len(set(ids)) != num_classes:
        raise ValueError(f"category_ids must be {num_classes} different numbers, got {short(ids)}")
    return list(ids)


def known_image_size(content: Mapping[str, Any]) -> ImageSize:
    """The size to which images are resized, by default the paper's. Raises ValueError if it is malformed."""
    size = content.get("image_size", ImageSize()._asdict())
    if not isinstance(size, Mapping) or set(size) != set(ImageSize._fields):
        raise ValueError(f"image_size must be a dict of shortest_side and longest_side, got {short(size)}")
    for name, side in size.items():
        if type(side) is not int or not 1 <= side <= LARGEST_SIDE:
            raise ValueError(
                f"image_size: {name} must be a whole number of 1 to {LARGEST_SIDE}, got {short(side)}"
            )
    return ImageSize(**size)
