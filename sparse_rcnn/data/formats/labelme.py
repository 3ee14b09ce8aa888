"""LabelMe's annotations: a JSON for each image, with rectangles, polygons and circles in pixels."""

import math
from pathlib import Path

from sparse_rcnn.data.formats.coco_fields import is_length, is_name, is_number
from sparse_rcnn.data.formats.entries import Entry, Shape, layout_of_entries
from sparse_rcnn.data.formats.json_file import has_names, read_json, shown
from sparse_rcnn.data.formats.layout import Format, Layout

__all__ = ["LABELME_FORMAT", "recognise"]


def recognise(path: Path) -> Layout | None:
    """A folder with LabelMe's files anywhere below, or one of them."""
    return layout_of_entries(path, "LabelMe", ".json", _is_labelme, _parse, one_an_image=True)


def _is_labelme(file: Path) -> bool:
    return has_names(file, "shapes", "flags") or has_names(file, "shapes", "imagePath")


def _parse(file: Path) -> list[Entry]:
    content = read_json(file)
    shapes = content.get("shapes") if isinstance(content, dict) else None
    if not isinstance(shapes, list):
        raise ValueError(f"{file}: field 'shapes' must be a list, got {shown(shapes)}")
    found = []
    for number, shape in enumerate(shapes):
        where = f"{file}: shape {number}"
        label = shape.get("label") if isinstance(shape, dict) else None
        if not is_name(label):
            raise ValueError(f"{where}: field 'label' must be a name, got {shown(label)}")
        found.append(Shape(str(label).strip(), _box(shape, where), where))
    image = content.get("imagePath")
    size = content.get("imageHeight"), content.get("imageWidth")
    known = size if is_length(size[0]) and is_length(size[1]) else None
    return [Entry(image if is_name(image) else file.stem, found, known)]


def _box(shape: dict, where: str) -> tuple[float, float, float, float]:
    """The box around the points. The points of a circle are its centre and a point on its line."""
    points: list = shape["points"] if isinstance(shape.get("points"), list) else []
    right = all(isinstance(p, list) and len(p) == 2 and all(map(is_number, p)) for p in points)
    if not right or len(points) < 2:
        raise ValueError(
            f"{where}: field 'points' must be two points [x, y] or more, got {shown(shape.get('points'))}"
        )
    if shape.get("shape_type") == "circle":
        (x, y), edge = points[:2]
        radius = math.dist((x, y), edge)
        return x - radius, y - radius, 2 * radius, 2 * radius
    xs, ys = zip(*points, strict=True)
    return min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)


LABELME_FORMAT = Format("LabelMe", "a JSON with shapes and imagePath for each image", recognise)
