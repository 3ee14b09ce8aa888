"""Tables of boxes, a line each: CSV as Roboflow, Kaggle, makesense, VIA, Open Images and RetinaNet have it.

The names of the columns say what is in them. Numbers are pixels, or fractions if all are at most 1.
"""

import csv
import json
import re
from collections.abc import Mapping
from pathlib import Path

from sparse_rcnn.data.formats.csv_columns import (
    BOXES,
    CENTRE,
    CORNERS,
    IMAGE,
    LIST,
    NUMBERS,
    REGION,
    columns_of,
    plain_name,
    what_is_missing,
)
from sparse_rcnn.data.formats.entries import Entry, Shape, layout_of_entries
from sparse_rcnn.data.formats.layout import Format, Layout
from sparse_rcnn.data.formats.text_file import decoded, read_text
from sparse_rcnn.data.formats.via import region_of

__all__ = ["CSV_FORMAT", "NO_CLASS", "SUFFIXES", "recognise", "why_unknown"]

NO_CLASS = "object"  # the class of tables that have no column for it
SUFFIXES = (".csv", ".tsv")


def recognise(path: Path) -> Layout | None:
    """A table of boxes, or a folder with some."""
    remarks: list[str] = []

    def is_table(file: Path) -> bool:
        head = _head(file)
        columns = columns_of(head)
        if columns is not None and "class" not in columns and "attributes" not in columns:
            unused = [name for place, name in enumerate(head) if name and place not in columns.values()]
            others = f" (columns that are not used: {', '.join(unused)})" if unused else ""
            remarks.append(f"{file}: no column says the class: all boxes are of one, {NO_CLASS!r}{others}")
        return columns is not None

    layout = layout_of_entries(path, "CSV", SUFFIXES, is_table, _parse)
    return None if layout is None else layout._replace(remarks=tuple(remarks))


def why_unknown(file: Path) -> str:
    """What is missing in the first line of a table, for messages."""
    return what_is_missing(_head(file))


def _head(file: Path) -> list[str]:
    try:
        with open(file, "rb") as stream:
            lines = decoded(stream.read(1 << 14), "replace").splitlines()
    except OSError:
        return []
    return _rows("\n".join(lines[:1]))[0] if lines and lines[0].strip() else []


def _rows(text: str) -> list[list[str]]:
    return list(csv.reader(text.splitlines(), delimiter=_delimiter(text)))


def _delimiter(text: str) -> str:
    first = text.partition("\n")[0]
    return max(",;\t", key=first.count)


def _parse(file: Path) -> list[Entry]:
    text = read_text(file)
    rows = _rows(text)
    columns = columns_of(rows[0]) if rows else None
    if columns is None:
        raise ValueError(f"{file}: its first line names no columns of images and boxes")
    headless = not any(plain_name(name) in IMAGE for name in rows[0])
    decimal_commas = _delimiter(text) != ","
    long_names = _descriptions(file) if "labelname" in map(plain_name, rows[0]) else {}
    kinds = next(kinds for kinds in BOXES if all(kind in columns for kind in kinds))
    fractions = bool(long_names) or "group" in columns
    entries = []
    for number, row in enumerate(rows[0 if headless else 1 :], start=1 if headless else 2):
        if not row:
            continue
        where = f"{file}: line {number}"
        if len(row) < len(rows[0]):
            raise ValueError(f"{where}: must have {len(rows[0])} fields, got {len(row)}")
        fields = {kind: row[place].strip() for kind, place in columns.items()}
        if not fields["image"]:
            raise ValueError(f"{where}: the name of the image is empty")
        if decimal_commas:
            fields |= {kind: fields[kind].replace(",", ".") for kind in NUMBERS & fields.keys()}
        shape = _shape(fields, kinds, where, fractions)
        if shape and shape.name in long_names:
            shape = shape._replace(name=long_names[shape.name])
        entries.append(Entry(fields["image"], [shape] if shape else [], _size(fields)))
    return entries if fractions else _scaled(entries)


def _scaled(entries: list[Entry]) -> list[Entry]:
    """Boxes as fractions of the image, if all lie in its first pixel otherwise."""
    shapes = [shape for entry in entries for shape in entry.shapes]
    whole = all(side % 1 == 0 for shape in shapes for side in shape.box)
    if whole or any(not -0.01 <= side <= 1.01 for shape in shapes for side in shape.box):
        return entries
    return [
        entry._replace(shapes=[shape._replace(fractions=True) for shape in entry.shapes]) for entry in entries
    ]


def _size(fields: Mapping[str, str]) -> tuple[int, int] | None:
    """(height, width) of the image in pixels. None if the line does not say it."""
    height, width = (fields.get(side, "") for side in ("height", "width"))
    if not all(re.fullmatch(r"0*[1-9]\d{0,8}(\.0*)?", side) for side in (height, width)):
        return None
    return int(float(height)), int(float(width))


def _shape(fields: Mapping[str, str], kinds: tuple[str, ...], where: str, fractions: bool) -> Shape | None:
    """The box of a line. None if its fields are empty: the image has no objects."""
    if not any(fields[kind].strip("{}") for kind in kinds):
        return None
    if kinds == REGION:
        try:
            return region_of(json.loads(fields["shape"]), json.loads(fields["attributes"]), where)
        except json.JSONDecodeError as error:
            raise ValueError(f"{where}: field 'region_attributes' is not valid JSON: {error}") from error
    numbers = [fields[kind] for kind in kinds]
    if kinds == LIST:  # "[x, y, w, h]"
        numbers = fields["box"].strip("[]() ").replace(",", " ").split()
    try:
        one, two, three, four = map(float, numbers)
    except ValueError as error:
        raise ValueError(f"{where}: the box must be four numbers, got {numbers!s:.80}") from error
    box = one, two, three, four
    if kinds == CORNERS:
        box = one, two, three - one, four - two
    elif kinds == CENTRE:
        box = one - three / 2, two - four / 2, three, four
    name = fields.get("class", NO_CLASS)
    if name.endswith(".0") and name[:-2].isdecimal():  # as pandas writes numbers
        name = name[:-2]
    if not name:
        raise ValueError(f"{where}: the class is empty")
    return Shape(name, box, where, fractions, fields.get("group") == "1")


def _descriptions(file: Path) -> dict[str, str]:
    """Open Images' names of classes, from the file beside its tables."""
    files = sorted(file.parent.glob("*class-descriptions*.csv"))
    return {row[0]: row[1] for row in _rows(read_text(files[0])) if len(row) == 2} if files else {}


CSV_FORMAT = Format("CSV", "a table with columns such as filename, class, xmin, ymin, xmax, ymax", recognise)
