"""Finds classes by name: those of a detector in a data set, and those that a caller wants."""

import difflib
from collections.abc import Iterable, Sequence
from typing import Any

from sparse_rcnn.data.formats.detection_dataset import DetectionDataset
from sparse_rcnn.ops.argument_checks import whole_number

__all__ = ["category_ids_of", "labels_of"]


def category_ids_of(
    class_names: Sequence[str], dataset: DetectionDataset, wanted: Sequence[str] | None = None
) -> list[int | None]:
    """The category id in the data set for each label of a detector. None for labels that are not evaluated.

    Args:
        class_names: The class names of the detector, by label.
        dataset: The data set. Its classes may be fewer or in another order.
        wanted: The classes to evaluate. Both must have them. The default is all of the data set.

    Returns:
        K category ids, by label.

    Raises:
        ValueError: If a class is missing on one side. The message names it, and similar names.

    Example:
        >>> from sparse_rcnn.data import DetectionDataset
        >>> dataset = DetectionDataset.from_boxes(["photo.jpg"], [[]], [[]], ["cat", "dog"])
        >>> category_ids_of(["dog", "cow", "cat"], dataset)
        [2, None, 1]
    """
    ids, known = dataset.category_ids, dataset.class_names
    wanted = None if wanted is None else _listed(wanted)
    if wanted == []:
        raise ValueError("classes must be at least one name, got []")
    if wanted is None and list(class_names) == known:
        return list(ids)  # names may be equal, too
    both = (("the checkpoint", list(class_names)), ("the data set", known))
    for owner, names in both:
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"{owner} has two classes of the same name, {', '.join(twice)}")
    common = [name for name in known if name in {*class_names}]
    if wanted is None:
        missing = [name for name in known if name not in {*class_names}]
        if missing:
            remedy = f"; both have {', '.join(map(repr, common))}: choose classes of these" if common else ""
            raise ValueError(
                f"the checkpoint has no class {_with_likes(missing, class_names)}; its classes are "
                f"{_first(class_names)}{remedy}"
            )
    for owner, names in both:
        missing = [name for name in wanted or [] if name not in names]
        if missing:
            raise ValueError(
                f"classes: {owner} has no class {_with_likes(missing, names)}; its classes are "
                f"{_first(names)}"
            )
    chosen = {*(common if wanted is None else wanted)}
    by_name = dict(zip(known, ids, strict=True))
    return [by_name[name] if name in chosen else None for name in class_names]


def labels_of(classes: Iterable[str | int], class_names: Sequence[str]) -> list[int]:
    """The labels of some classes. A name stands for all classes of that name.

    Args:
        classes: Names or labels.
        class_names: The K names, by label.

    Returns:
        The labels.

    Raises:
        ValueError: If there is no such class.

    Example:
        >>> labels_of(["dog", 0], ["cat", "dog"])
        [1, 0]
    """
    wanted_classes = _listed(classes)
    labels: list[int] = []
    for wanted in wanted_classes:
        if isinstance(wanted, str):
            found = [label for label, name in enumerate(class_names) if name == wanted]
        else:
            label = whole_number("classes: a label", wanted, 0)
            found = [label] if label < len(class_names) else []
        if not found:
            shown = ", ".join(class_names[:20]) + (" ..." if len(class_names) > 20 else "")
            what = _with_likes([wanted], class_names) if isinstance(wanted, str) else repr(wanted)
            raise ValueError(f"classes: there is no class {what}; the classes are {shown}")
        labels += found
    return labels


def _listed(classes: Iterable[Any]) -> list[Any]:
    if isinstance(classes, str) or not isinstance(classes, Iterable):
        raise ValueError(f"classes must be a list of names or labels, got {classes!r}: give [{classes!r}]")
    return list(classes)


def _with_likes(missing: Sequence[str], names: Sequence[str]) -> str:
    words = []
    for name in missing:
        alike = difflib.get_close_matches(str(name), names, n=1)
        words.append(f"{name!r} (did you mean {alike[0]!r}?)" if alike else repr(name))
    return ", ".join(words)


def _first(names: Sequence[str], most: int = 20) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
