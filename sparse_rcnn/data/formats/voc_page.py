"""One image's XML file of Pascal VOC: its size and objects, every field checked, and named if it is wrong."""

import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple


class VocObject(NamedTuple):
    """One annotated object, as written."""

    name: str
    box: tuple[float, float, float, float]  # xmin, ymin, xmax, ymax as written
    difficult: bool


class VocPage(NamedTuple):
    """What a file says of its image."""

    size: tuple[int, int]  # height, width
    objects: list[VocObject]


def read_page(file: Path) -> VocPage:
    """Reads one file.

    Raises:
        ValueError: Naming the file, the object (counted from 0) and the field, for a file that cannot be
            read, malformed XML, and missing or unreadable fields.
    """
    try:
        root = ElementTree.parse(file).getroot()
    except OSError as error:
        raise ValueError(f"{file}: cannot be read: {error}") from error
    except (ElementTree.ParseError, ValueError, LookupError) as error:  # LookupError: an unknown encoding
        raise ValueError(f"{file}: is not valid XML: {error}") from error
    height = _field(root, "size/height", _length, "a positive integer", str(file))
    width = _field(root, "size/width", _length, "a positive integer", str(file))
    objects = []
    for number, element in enumerate(root.findall("object")):
        where = f"{file}: object {number}"
        name = _field(element, "name", _name, "a name", where)
        xmin, ymin, xmax, ymax = (
            _field(element, f"bndbox/{side}", float, "a number", f"{where} ({name})")
            for side in ("xmin", "ymin", "xmax", "ymax")
        )
        # Many tools leave `difficult` out; absent means not difficult.
        difficult = element.find("difficult") is not None and _field(
            element, "difficult", {"0": False, "1": True}.__getitem__, "0 or 1", f"{where} ({name})"
        )
        objects.append(VocObject(name, (xmin, ymin, xmax, ymax), difficult))
    return VocPage((height, width), objects)


def _field(
    element: ElementTree.Element, path: str, convert: Callable[[str], Any], expected: str, where: str
) -> Any:
    text = element.findtext(path)
    try:
        return convert("" if text is None else text.strip())
    except (ValueError, KeyError, OverflowError) as error:
        got = "nothing" if text is None else repr(text)[:80]
        raise ValueError(f"{where}: field {path!r} must be {expected}, got {got}") from error


def _length(text: str) -> int:
    if not 0 < int(text) < 2**31:
        raise ValueError(text)
    return int(text)


def _name(text: str) -> str:
    if not text:
        raise ValueError(text)
    return text
