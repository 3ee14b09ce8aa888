"""Small JSON files. The beginning says of which format they are."""

import json
from pathlib import Path
from typing import Any

from sparse_rcnn.data.formats.coco_fields import is_number
from sparse_rcnn.data.formats.text_file import decoded, read_text

__all__ = ["HEAD", "begins_with", "number_of", "read_json", "shown"]

HEAD = 1 << 14  # bytes that are looked at


def begins_with(file: Path, *words: str) -> bool:
    """Whether all of these names are in the beginning of a file."""
    try:
        with open(file, "rb") as stream:
            head = decoded(stream.read(HEAD), "replace")
    except OSError:
        return False
    return all(f'"{word}"' in head for word in words)


def read_json(file: Path) -> Any:
    """What a file holds; ValueError if it is not JSON."""
    try:
        return json.loads(read_text(file))
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"{file}: is not valid JSON: {error}") from error


def number_of(entry: Any, field: str, where: str) -> float:
    """A field that must be a finite number; ValueError if it is not."""
    value = entry.get(field) if isinstance(entry, dict) else None
    if value is None or not is_number(value):
        raise ValueError(f"{where}: field {field!r} must be a finite number, got {shown(value)}")
    return float(value)


def shown(value: Any) -> str:
    """A value for a message."""
    return "nothing" if value is None else repr(value)[:80]
