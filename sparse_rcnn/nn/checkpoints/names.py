"""The class names in a checkpoint."""

from collections.abc import Mapping
from reprlib import repr as short
from typing import Any

__all__ = ["checkpoint_class_names"]


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
