"""Fields of COCO's JSON: read as columns, every value checked, and named if it is wrong."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

LARGEST_NUMBER = 1e300  # beyond it is not a coordinate but an overflow; NaN compares false with it, too
_REQUIRED = object()


def column(
    entries: list[Any],
    field: str,
    is_valid: Callable[[Any], bool],
    expected: str,
    file: Path,
    kind: str,
    default: Any = _REQUIRED,
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

    Returns:
        The values, in the order of the entries.

    Raises:
        ValueError: naming file, entry, field and value, for the first that is missing or not valid.
    """
    values = []
    for index, entry in enumerate(entries):
        if not isinstance(entry, dict):
            raise ValueError(f"{file}: {kind} number {index} must be an object, got {type(entry).__name__}")
        value = entry.get(field, default)
        # A default is let through by identity; an explicit null in its place is not.
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
    """Text that is not empty."""
    return isinstance(value, str) and value != ""


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
