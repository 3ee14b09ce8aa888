"""JSON files: the names in them say of which format they are; small ones are read at once."""

import json
import mmap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sparse_rcnn.data.formats.coco_fields import is_number
from sparse_rcnn.data.formats.text_file import read_text

__all__ = ["ENDS", "has_names", "names_in", "number_of", "read_json", "shown"]

ENDS = 1 << 16  # bytes at the beginning and at the end that are looked at first


def has_names(file: Path, *words: str) -> bool:
    """Whether all of these names are in a file, in any order."""
    return len(names_in(file, words, len(words))) == len(words)


def names_in(file: Path, words: Sequence[str], enough: int) -> set[str]:
    """Which of these names are in a file of any size. A file that cannot be read has none.

    The beginning and the end mostly tell it. If they have some, but not enough, all between is searched: a
    list of images or shapes may be long, and another name may come after it. This takes about a third of a
    second for a gigabyte.

    Args:
        file: The file.
        words: The names.
        enough: The search ends when so many are found.
    """
    try:
        with open(file, "rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
            encoding = json.detect_encoding(content[:4])
            # The names are ASCII: so written, they are also found in UTF-16 and UTF-32 of the other order.
            code = "utf-8" if encoding.startswith("utf-8") else f"{encoding[:6]}-le"
            ends = content[:ENDS] + content[-ENDS:]
            found = {word for word in words if f'"{word}"'.encode(code) in ends}
            for word in words if found else ():
                if len(found) >= enough:
                    break
                if content.find(f'"{word}"'.encode(code)) >= 0:
                    found.add(word)
            return found
    except (OSError, ValueError):  # it cannot be read, or is empty
        return set()


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
