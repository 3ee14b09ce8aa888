"""Reads a COCO JSON of any size: images, classes and objects, whose ids become positions."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sparse_rcnn.data.formats.annotated_images import AnnotatedImages
from sparse_rcnn.data.formats.annotations import Objects
from sparse_rcnn.data.formats.coco_columns import CocoColumns
from sparse_rcnn.data.formats.coco_fields import column, is_id, is_name, shown
from sparse_rcnn.data.formats.coco_mending import Mending
from sparse_rcnn.data.formats.flat import FlatStrings
from sparse_rcnn.data.formats.json_sections import Consumed, read_sections
from sparse_rcnn.data.formats.lvis_fields import read_lvis_fields

__all__ = ["SECTIONS", "read_coco"]

SECTIONS = ("images", "annotations", "categories")


def read_coco(
    file: Path,
    locate: Callable[[Sequence[str]], tuple[list[str], list[str]]],
    mending: Mending | None = None,
) -> tuple[AnnotatedImages, list[int]]:
    """Reads a COCO JSON of any size, piece by piece.

    Args:
        file: The JSON.
        locate: From the images' `file_name`s to their paths, and remarks.
        mending: Reads what leaves no doubt; None refuses it.

    Returns:
        Images, classes by ascending id, and objects; and the ids of categories that are a name above others
        (their `supercategory`) and have none above themselves.

    Raises:
        ValueError: As `CocoDetection`.
    """
    columns = CocoColumns(file, mending)
    consumers = {"images": columns.add_images, "annotations": columns.add_annotations}
    members = read_sections(file, consumers)
    for section in SECTIONS:
        if not isinstance(members.get(section), list if section == "categories" else Consumed):
            raise ValueError(f"{file}: field {section!r} must be a list, got {shown(members, section)}")
    if not columns.names:
        raise ValueError(f"{file}: the data set is empty: 'images' has no entries")
    if mending is not None:
        columns.drop_repeated()
        members["categories"] = mending.categories(members["categories"])
    image_ids, sizes = columns.images()
    _refuse_duplicates(image_ids, file, "image", mending)
    if mending is not None:
        mending.repeated = len({*columns.names}) < len(columns.names)
    paths, remarks = locate(columns.names)
    columns.names = []
    by_id, parents = _categories(members["categories"], file)
    ids, image_of, category_of, boxes, areas, is_crowd = columns.annotations()
    if mending is None:
        _refuse_duplicates(ids, file, "annotation")
    image_of = _positions(image_of, image_ids, ids, "image_id", file, mending)
    labels = _positions(category_of, np.array(list(by_id)), ids, "category_id", file, mending)
    del category_of
    if mending is not None and (lost := (image_of < 0) | (labels < 0)).any():
        for index in np.flatnonzero((labels < 0) & (image_of >= 0)).tolist():
            said = f"{file}: annotation {ids[index]}: its category is not among 'categories'"
            mending.broken.setdefault(int(image_ids[image_of[index]]), said)
        ids, image_of, labels, boxes, areas, is_crowd = (
            column[~lost] for column in (ids, image_of, labels, boxes, areas, is_crowd)
        )
    if np.less(np.diff(image_of), 0).any():  # one column after the other, to save memory
        order = np.argsort(image_of, kind="stable")
        ids, image_of, labels = ids[order], image_of[order], labels[order]
        boxes = boxes[order]
        areas, is_crowd = areas[order], is_crowd[order]
    unique = mending.numbered(ids) if mending is not None else ids
    objects = Objects(unique, image_of, labels, boxes, areas, is_crowd)

    def describe(index: int) -> str:
        return f"{file}: annotation {ids[index]}: bbox {boxes[index].tolist()}"

    names, categories = list(by_id.values()), list(by_id)
    lvis_images = columns.lvis if len(columns.lvis) == len(image_ids) else {}
    lvis = read_lvis_fields(lvis_images, members["categories"], file)
    content = AnnotatedImages(
        FlatStrings(paths), image_ids, sizes, names, categories, objects, describe, remarks, lvis
    )
    return content, parents


def _categories(entries: list[Any], file: Path) -> tuple[dict[int, str], list[int]]:
    """The names by ascending id, and the ids of those that are the name of a group."""
    ids = column(entries, "id", is_id, "an integer", file, "category")
    _refuse_duplicates(np.array(ids), file, "category")
    names = column(entries, "name", is_name, "a non-empty string", file, "category")
    if not ids:
        raise ValueError(f"{file}: 'categories' has no entries")
    above = {str(entry.get("supercategory")) for entry in entries}
    top = {"", "none", "None"}
    parents = [
        id
        for id, name, entry in zip(ids, names, entries, strict=True)
        if name in above and str(entry.get("supercategory", "")) in top
    ]
    return dict(sorted(zip(ids, names, strict=True))), parents


def _positions(
    values: np.ndarray,
    known: np.ndarray,
    ids: np.ndarray,
    field: str,
    file: Path,
    mending: Mending | None,
) -> np.ndarray:
    """Maps an id field to the position of that id in `known`, [n] int32; -1: left out."""
    order = np.argsort(known, kind="stable")
    ordered = known[order]
    low, high = int(ordered[0]), int(ordered[-1])
    if high - low < 4 * len(known) + 1024:  # few gaps: a table is faster than a search
        table = np.full(high - low + 1, -1, dtype=np.int32)
        table[known - low] = np.arange(len(known), dtype=np.int32)
        inside = (values >= low) & (values <= high)
        positions = np.where(inside, table[np.where(inside, values - low, 0)], np.int32(-1))
    else:
        places = np.minimum(np.searchsorted(ordered, values), len(known) - 1)
        positions = np.where(ordered[places] == values, order[places], -1).astype(np.int32)
    if (wrong := positions < 0).any():
        first = int(np.argmax(wrong))
        section = {"image_id": "images", "category_id": "categories"}[field]
        value = mending.written(values[first]) if mending and field == "image_id" else values[first]
        said = f"{field} {value} is not among {section!r}"
        count = int(np.count_nonzero(wrong))
        if mending is None or not mending.leave_out_broken:
            others = f" (and {count - 1} more like it)" if count > 1 else ""
            how = "; leave_out_broken=True, --leave-out-broken, leaves them out" if mending else ""
            raise ValueError(f"{file}: annotation {ids[first]}: {said}{others}{how}")
        mending.note(f"annotations are left out: their {field} is not among {section!r}", ids[first], count)
    return positions


def _refuse_duplicates(ids: np.ndarray, file: Path, kind: str, mending: Mending | None = None) -> None:
    if np.greater(np.diff(ids), 0).all():
        return
    ordered = np.sort(ids)
    again = ordered[1:][ordered[1:] == ordered[:-1]]
    if len(again):
        id = mending.written(again[0]) if mending else again[0]
        raise ValueError(f"{file}: {kind} id {id} occurs more than once")
