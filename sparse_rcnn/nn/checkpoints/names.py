"""The class names that a checkpoint carries."""

from collections.abc import Mapping
from reprlib import repr as short
from typing import Any

__all__ = ["checkpoint_class_names"]


def checkpoint_class_names(checkpoint: Mapping[str, Any]) -> list[str] | None:
    """The class names that a checkpoint carries, by label.

    Args:
        checkpoint: as loaded from its file.

    Returns:
        `"class_names"` of this library's files, or what mmdetection keeps in `"meta"`; None where the
        file carries no names, as the authors' do.

    Raises:
        ValueError: if they are no names.
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
