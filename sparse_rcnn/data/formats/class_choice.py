"""Classes chosen, merged or brought into an order by their names."""

import difflib
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from sparse_rcnn.data.formats.annotated_images import AnnotatedImages
from sparse_rcnn.data.formats.box_lists import check_class_names
from sparse_rcnn.data.formats.counted import counted

__all__ = ["choose_classes", "in_order"]


def choose_classes(
    content: AnnotatedImages,
    class_names: Sequence[str] | Mapping[str, Sequence[str]],
    *,
    allow_absent: bool = False,
) -> AnnotatedImages:
    """Images with the objects of some classes. Objects of other classes are left out, with a remark.

    Args:
        content: As a reader gives it.
        class_names: Names, by label. A mapping merges: `{"vehicle": ["car", "truck"], "person": ["person"]}`.
        allow_absent: Take names that the data set has not, as long as it has one of them.

    Raises:
        ValueError: For a name that the data set does not have, or that is given twice.
    """
    merged = (
        {name: list(old) for name, old in class_names.items()}
        if isinstance(class_names, Mapping)
        else {name: [name] for name in check_class_names(class_names)}
    )
    check_class_names(list(merged))
    wanted = check_class_names([old for names in merged.values() for old in names])
    absent = [name for name in wanted if name not in content.class_names]
    if absent and (not allow_absent or len(absent) == len(wanted)):
        close = difflib.get_close_matches(absent[0], content.class_names, 1, 0.5)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise ValueError(
            f"class {absent[0]!r} is not among the classes of the data set: "
            f"{', '.join(content.class_names[:20])}{hint}"
        )
    new_label = {old: label for label, names in enumerate(merged.values()) for old in names}
    table = np.array([new_label.get(name, -1) for name in content.class_names], dtype=np.int32)
    labels = table[content.objects.labels]
    remarks = list(content.remarks)
    if absent:
        said = counted(len(absent), "class is", "classes are")
        remarks.append(f"{said} not in the data set, such as {absent[0]}")
    if (left_out := int(np.count_nonzero(labels < 0))) > 0:
        others = [name for name in content.class_names if name not in new_label]
        named = ", ".join(others[:5]) + (", ..." if len(others) > 5 else "")
        said = counted(left_out, "box is of a class that was", "boxes are of classes that were")
        remarks.append(f"{said} not asked for, and left out: {named}")
    part = content.with_objects(labels >= 0)
    part = part._replace(objects=part.objects._replace(labels=labels[labels >= 0]))
    return part._replace(
        class_names=list(merged),
        category_ids=_category_ids(content, list(merged.values())),
        remarks=remarks,
        lvis=None,  # of the classes as they were
    )


def in_order(names: Iterable[str]) -> list[str]:
    """Names sorted by the alphabet, or by their values if all are numbers.

    Example:
        >>> in_order({"10", "9"})
        ['9', '10']
    """
    names = sorted(names)
    return sorted(names, key=int) if all(name.isdecimal() for name in names) else names


def _category_ids(content: AnnotatedImages, merged: list[list[str]]) -> list[int]:
    """The id of each class: that of the first of the merged classes, or a new one above all others."""
    ids = dict(zip(content.class_names, content.category_ids, strict=True))
    above = max(content.category_ids, default=0) + 1
    return [
        next((ids[name] for name in names if name in ids), above + label)
        for label, names in enumerate(merged)
    ]
