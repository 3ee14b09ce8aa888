"""Tables of boxes, a line each: CSV as Roboflow, Kaggle, makesense, VIA, Open Images and RetinaNet have it.

The names of the columns say what is in them. Corners and sizes are in pixels; Open Images' are fractions.
"""

import csv
import json
import re
from collections.abc import Mapping
from pathlib import Path

from sparse_rcnn.data.formats.entries import Entry, Shape, layout_of_entries
from sparse_rcnn.data.formats.layout import Format, Layout
from sparse_rcnn.data.formats.text_file import decoded, read_text
from sparse_rcnn.data.formats.via import region_of

__all__ = ["BOXES", "COLUMNS", "CSV_FORMAT", "IMAGE", "NO_CLASS", "WITHOUT_HEADER", "recognise"]

IMAGE = (
    *("filename", "file_name", "image", "image_name", "image_id", "imageid", "image_path"),
    *("path", "img", "file"),
)
COLUMNS: dict[str, tuple[str, ...]] = {
    "image": IMAGE,
    "class": ("class", "label", "class_name", "label_name", "labelname", "category", "name"),
    "left": ("xmin", "x_min", "x1", "left"),
    "top": ("ymin", "y_min", "y1", "top"),
    "right": ("xmax", "x_max", "x2", "right"),
    "bottom": ("ymax", "y_max", "y2", "bottom"),
    "x": ("x", "bbox_x"),
    "y": ("y", "bbox_y"),
    "w": ("w", "bbox_width"),
    "h": ("h", "bbox_height"),
    "box": ("bbox",),
    "width": ("width", "image_width", "img_width"),  # of the image
    "height": ("height", "image_height", "img_height"),
    "shape": ("region_shape_attributes",),
    "attributes": ("region_attributes",),
    "group": ("isgroupof",),
}
BOXES = (("left", "top", "right", "bottom"), ("x", "y", "w", "h"), ("box",), ("shape", "attributes"))
# Lines without names of columns, by their number of fields: keras-retinanet's and makesense's.
WITHOUT_HEADER = {
    6: ("image", "left", "top", "right", "bottom", "class"),
    8: ("class", "x", "y", "w", "h", "image", "width", "height"),
}
NO_CLASS = "object"  # the class of tables that have no column for it


def recognise(path: Path) -> Layout | None:
    """A table of boxes, or a folder with some."""
    return layout_of_entries(path, "CSV", ".csv", lambda file: _columns(_head(file)) is not None, _parse)


def _head(file: Path) -> list[str]:
    try:
        with open(file, "rb") as stream:
            lines = decoded(stream.read(1 << 14), "replace").splitlines()
    except OSError:
        return []
    return _rows("\n".join(lines[:1]))[0] if lines and lines[0].strip() else []


def _rows(text: str) -> list[list[str]]:
    first = text.partition("\n")[0]
    delimiter = max(",;\t", key=first.count)
    return list(csv.reader(text.splitlines(), delimiter=delimiter))


def _columns(head: list[str]) -> dict[str, int] | None:
    """The index of each known column. None if the table has no boxes."""
    names = [name.strip().lower() for name in head]
    found = {
        kind: names.index(name) for kind, known in COLUMNS.items() for name in known[::-1] if name in names
    }
    if "image" in found and any(all(kind in found for kind in kinds) for kinds in BOXES):
        return found
    kinds = WITHOUT_HEADER.get(len(names), ())
    numbers = [name for kind, name in zip(kinds, names, strict=False) if kind not in ("image", "class")]
    if kinds and all(re.fullmatch(r"-?\d*\.?\d*", number) for number in numbers):
        return {kind: place for place, kind in enumerate(kinds)}
    return None


def _parse(file: Path) -> list[Entry]:
    rows = _rows(read_text(file))
    columns = _columns(rows[0]) if rows else None
    if columns is None:
        raise ValueError(f"{file}: its first line names no columns of images and boxes")
    headless = not any(name.strip().lower() in IMAGE for name in rows[0])
    long_names = _descriptions(file) if "labelname" in map(str.lower, rows[0]) else {}
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
        shape = _shape(fields, where, bool(long_names) or "group" in columns)
        if shape and shape.name in long_names:
            shape = shape._replace(name=long_names[shape.name])
        entries.append(Entry(fields["image"], [shape] if shape else [], _size(fields)))
    return entries


def _size(fields: Mapping[str, str]) -> tuple[int, int] | None:
    """(height, width) of the image in pixels. None if the line does not say it."""
    height, width = (fields.get(side, "") for side in ("height", "width"))
    if not all(re.fullmatch(r"0*[1-9]\d{0,8}(\.0*)?", side) for side in (height, width)):
        return None
    return int(float(height)), int(float(width))


def _shape(fields: Mapping[str, str], where: str, fractions: bool) -> Shape | None:
    """The box of a line. None if its fields are empty: the image has no objects."""
    kinds = next(kinds for kinds in BOXES if all(kind in fields for kind in kinds))
    if not any(fields[kind].strip("{}") for kind in kinds):
        return None
    if kinds == BOXES[3]:
        try:
            return region_of(json.loads(fields["shape"]), json.loads(fields["attributes"]), where)
        except json.JSONDecodeError as error:
            raise ValueError(f"{where}: field 'region_attributes' is not valid JSON: {error}") from error
    numbers = [fields[kind] for kind in kinds]
    if kinds == BOXES[2]:  # "[x, y, w, h]"
        numbers = fields["box"].strip("[]() ").replace(",", " ").split()
    try:
        one, two, three, four = map(float, numbers)
    except ValueError as error:
        raise ValueError(f"{where}: the box must be four numbers, got {numbers!s:.80}") from error
    box = (one, two, three - one, four - two) if kinds == BOXES[0] else (one, two, three, four)
    name = fields.get("class", NO_CLASS)
    if not name:
        raise ValueError(f"{where}: the class is empty")
    return Shape(name, box, where, fractions, fields.get("group") == "1")


def _descriptions(file: Path) -> dict[str, str]:
    """Open Images' names of classes, from the file beside its tables."""
    files = sorted(file.parent.glob("*class-descriptions*.csv"))
    return {row[0]: row[1] for row in _rows(read_text(files[0])) if len(row) == 2} if files else {}


CSV_FORMAT = Format("CSV", "a table with columns such as filename, class, xmin, ymin, xmax, ymax", recognise)
