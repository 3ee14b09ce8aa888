"""The XML file of one image of Pascal VOC. Every field is checked, and an error names a wrong one."""

import math
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

__all__ = ["COUNTED_FROM", "UNSAID", "VocObject", "VocPage", "parse_xml", "read_page"]

COUNTED_FROM = "counted_from"  # written by this library's converter: the number of the first pixel
# Values of tools for "not known". The object is then not difficult.
UNSAID = ("", "unspecified", "unknown", "none", "null")


class VocObject(NamedTuple):
    """One annotated object, as written."""

    name: str
    box: tuple[float, float, float, float]  # xmin, ymin, xmax, ymax as written
    difficult: bool


class VocPage(NamedTuple):
    """What a file says of its image.

    Attributes:
        size: (height, width), or None where the file has none, or zeros.
        objects: In the order of the file.
        image_name: What the file says that its image is called.
        count_from: The number of the first pixel, if the file says it.
        odd: What is unusual and harmless.
    """

    size: tuple[int, int] | None
    objects: list[VocObject]
    image_name: str | None = None
    count_from: int | None = None
    odd: tuple[str, ...] = ()


def read_page(file: Path) -> VocPage:
    """Reads one file.

    Raises:
        ValueError: Naming the file, the object (counted from 0) and the field, for a file that cannot be
            read, malformed XML, missing or unreadable fields, and fields with several values.
    """
    root = parse_xml(file)
    for element in root.iter() if str(root.tag).startswith("{") else ():  # a namespace, which says nothing
        element.tag = str(element.tag).rpartition("}")[2]
    if root.tag != "annotation":
        raise ValueError(f"{file}: the outermost element must be <annotation>, got <{root.tag!s:.40}>")
    odd = set()
    height, width = (
        _field(root, f"size/{side}", _length, "a positive integer", str(file))
        if root.find(f"size/{side}") is not None
        else 0
        for side in ("height", "width")
    )
    size = (height, width) if height and width else None
    if size is None:
        odd.add("no size of the image: its header is asked")
    objects = []
    for number, element in enumerate(root.findall("object")):
        where = f"{file}: object {number}"
        name = _field(element, "name", _name, "a name", where)
        xmin, ymin, xmax, ymax = (
            _field(element, f"bndbox/{side}", _number, "a number", f"{where} ({name:.80})")
            for side in ("xmin", "ymin", "xmax", "ymax")
        )
        # Many tools leave `difficult` out; absent means not difficult.
        said = (element.findtext("difficult") or "").strip()
        if element.find("difficult") is not None and said.lower() in UNSAID:
            odd.add(f"difficult {said!r}, taken for 0")
        difficult = said.lower() not in UNSAID and _field(
            element, "difficult", _flag, "0 or 1", f"{where} ({name:.80})"
        )
        objects.append(VocObject(name, (xmin, ymin, xmax, ymax), difficult))
    count_from = None
    if root.find(COUNTED_FROM) is not None:
        count_from = _field(root, COUNTED_FROM, {"0": 0, "1": 1}.__getitem__, "0 or 1", str(file))
    image_name = (root.findtext("filename") or "").strip() or None
    return VocPage(size, objects, image_name, count_from, tuple(sorted(odd)))


def parse_xml(file: Path) -> ElementTree.Element:
    """The outermost element of an XML file; ValueError naming the file if it is none."""
    try:
        return ElementTree.parse(file).getroot()
    except OSError as error:
        raise ValueError(f"{file}: cannot be read: {error}") from error
    except (ElementTree.ParseError, ValueError, LookupError, RecursionError) as error:  # an unknown encoding
        raise ValueError(f"{file}: is not valid XML: {error}") from error


def _field(
    element: ElementTree.Element, path: str, convert: Callable[[str], Any], expected: str, where: str
) -> Any:
    found = [(one.text or "").strip() for one in element.findall(path)]
    if len({*found}) > 1:
        raise ValueError(f"{where}: field {path!r} is there {len(found)} times, with different values")
    text = found[0] if found else None
    try:
        return convert(text or "")
    except (ValueError, KeyError, OverflowError) as error:
        got = "nothing" if text is None else repr(text)[:80]
        raise ValueError(f"{where}: field {path!r} must be {expected}, got {got}") from error


def _length(text: str) -> int:
    """Pixels; also "50.0", and 0 for what nobody knew."""
    number = float(text)
    if not 0 <= number < 2**31 or number != int(number):
        raise ValueError(text)
    return int(number)


def _number(text: str) -> float:
    number = float(text)
    if math.isfinite(number) and abs(number) > 1e300:
        raise ValueError(text)
    return number


def _flag(text: str) -> bool:
    return {"0": False, "1": True, "false": False, "true": True, "no": False, "yes": True}[text.lower()]


def _name(text: str) -> str:
    if not text:
        raise ValueError(text)
    return text
