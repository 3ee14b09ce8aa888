"""Fields of COCO's JSON as columns. Every value is checked, and an error names a wrong one."""

from collections.abc import Callable
from itertools import chain
from operator import itemgetter
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

__all__ = [
    "LARGEST_NUMBER",
    "areas_of",
    "boxes_of",
    "column",
    "columns_at_once",
    "crowds_of",
    "integers",
    "is_area",
    "is_box",
    "is_flag",
    "is_id",
    "is_length",
    "is_name",
    "is_number",
    "names_of",
    "shown",
]

LARGEST_NUMBER = 1e300  # a greater number is an overflow and no coordinate; NaN compares false with it, too
_REQUIRED = object()


def column(
    entries: list[Any],
    field: str,
    is_valid: Callable[[Any], bool],
    expected: str,
    file: Path,
    kind: str,
    default: Any = _REQUIRED,
    first: int = 0,
) -> list[Any]:
    """A field of all entries.

    Args:
        entries: objects of one of the file's lists.
        field: its name.
        is_valid: whether a value is right.
        expected: what it should be, for messages.
        file: for messages.
        kind: of the entries, for messages.
        default: where an entry lacks the field; without one, it must be there.
        first: number of the first entry in its list, for messages.

    Returns:
        The values, in the order of the entries.

    Raises:
        ValueError: naming file, entry, field and value, for the first that is missing or not valid.
    """
    values = []
    for index, entry in enumerate(entries, start=first):
        if not isinstance(entry, dict):
            raise ValueError(f"{file}: {kind} number {index} must be an object, got {type(entry).__name__}")
        value = entry.get(field, default)
        # The default passes only if the field is absent: an explicit null does not pass.
        if not (is_valid(value) or (value is default and field not in entry and default is not _REQUIRED)):
            name = entry["id"] if is_id(entry.get("id")) else f"number {index}"
            raise ValueError(
                f"{file}: {kind} {name}: field {field!r} must be {expected}, got {shown(entry, field)}"
            )
        values.append(value)
    return values


def shown(entry: dict[str, Any], field: str) -> str:
    """What an entry has there, for a message."""
    return repr(entry[field])[:80] if field in entry else "nothing"


def is_id(value: Any) -> bool:
    """An integer that 64 bits hold."""
    return type(value) is int and -(2**63) <= value < 2**63  # type() and not isinstance: True is no id


def is_length(value: Any) -> bool:
    """Pixels of a side, at least 1."""
    return type(value) is int and 0 < value < 2**31


def is_name(value: Any) -> bool:
    """Text that is not blank."""
    return isinstance(value, str) and value.strip() != ""


def is_number(value: Any) -> bool:
    """A finite number."""
    return type(value) in (int, float) and -LARGEST_NUMBER < value < LARGEST_NUMBER


def is_area(value: Any) -> bool:
    """A finite number that is not negative."""
    return is_number(value) and value >= 0


def is_flag(value: Any) -> bool:
    """0 or 1."""
    return type(value) in (int, bool) and value in (0, 1)


def is_box(value: Any) -> bool:
    """Four finite numbers."""
    return type(value) is list and len(value) == 4 and all(is_number(number) for number in value)


def integers(entries: list[Any], fields: tuple[str, ...], file: Path, kind: str, first: int) -> np.ndarray:
    """Fields of integers, of all entries at once.

    Args:
        entries: Objects of one of the file's lists.
        fields: Their names.
        file: For messages.
        kind: Of the entries, for messages.
        first: Number of the first entry in its list, for messages.

    Returns:
        [n, fields] int64.

    Raises:
        ValueError: As `column`.
    """
    get = itemgetter(*fields)
    try:
        rows = list(map(get, entries))
        flat = rows if len(fields) == 1 else list(chain.from_iterable(rows))
        if set(map(type, flat)) <= {int}:
            return np.array(flat, dtype=np.int64).reshape(-1, len(fields))
    except (KeyError, TypeError, IndexError, OverflowError):
        pass  # found and named below
    columns = [column(entries, field, is_id, "an integer", file, kind, first=first) for field in fields]
    return np.array(columns, dtype=np.int64).T.reshape(-1, len(fields))


def names_of(entries: list[Any], file: Path, first: int) -> list[str]:
    """The images' `file_name`s, in LVIS v1 the last two parts of `coco_url`; raises as `column`."""
    try:
        names = list(map(itemgetter("file_name"), entries))
        if set(map(type, names)) <= {str} and all(names):
            return names
    except (KeyError, TypeError, IndexError):
        pass
    named = [
        {**entry, "file_name": "/".join(urlsplit(entry["coco_url"]).path.split("/")[-2:])}
        if isinstance(entry, dict) and "file_name" not in entry and is_name(entry.get("coco_url"))
        else entry
        for entry in entries
    ]
    return column(named, "file_name", is_name, "a non-empty string", file, "image", first=first)


_FIELDS = itemgetter("id", "image_id", "category_id", "bbox", "area")


def columns_at_once(entries: list[Any]) -> tuple[np.ndarray, ...] | None:
    """The columns of annotations, if every field is there and right; else None.

    Returns:
        ids, image ids and category ids [n] int64, boxes [n, 4] and areas [n] float64, crowds [n] bool.
    """
    try:
        *ids, boxes, areas = zip(*map(_FIELDS, entries), strict=True)
        crowds = [entry.get("iscrowd", 0) for entry in entries]
        if any({*map(type, column)} != {int} for column in (*ids, crowds)) or not {*crowds} <= {0, 1}:
            return None
        if {*map(type, boxes)} != {list} or {*map(len, boxes)} != {4}:
            return None
        sides = list(chain.from_iterable(boxes))
        if not {*map(type, sides), *map(type, areas)} <= {int, float}:
            return None
        found = np.array(sides, dtype=np.float64).reshape(-1, 4)
        sizes = np.array(areas, dtype=np.float64)
        if (
            not np.less(np.abs(found), LARGEST_NUMBER).all()
            or not ((sizes >= 0) & (sizes < LARGEST_NUMBER)).all()
        ):
            return None
        numbers = [np.array(column, dtype=np.int64) for column in ids]
    except (KeyError, TypeError, IndexError, ValueError, OverflowError):
        return None
    return (*numbers, found, sizes, np.array(crowds, dtype=bool))


def boxes_of(entries: list[Any], file: Path, first: int) -> np.ndarray:
    """The boxes of all annotations, [n, 4] float64; raises as `column`."""
    expected = "[x, y, width, height], four finite numbers"
    boxes = column(entries, "bbox", is_box, expected, file, "annotation", first=first)
    return np.array(boxes, dtype=np.float64).reshape(-1, 4)


def areas_of(entries: list[Any], boxes: np.ndarray, file: Path, first: int) -> np.ndarray:
    """The areas, [n] float64. Where the field is absent, it is the area of the box."""
    expected = "a finite number >= 0"
    areas = column(entries, "area", is_area, expected, file, "annotation", default=None, first=first)
    own = (boxes[:, 2] * boxes[:, 3]).tolist()
    return np.array([own[i] if area is None else area for i, area in enumerate(areas)], dtype=np.float64)


def crowds_of(entries: list[Any], file: Path, first: int) -> np.ndarray:
    """The flags `iscrowd`, [n] bool; 0 where the field is absent."""
    flags = column(entries, "iscrowd", is_flag, "0 or 1", file, "annotation", default=0, first=first)
    return np.array(flags, dtype=bool)
