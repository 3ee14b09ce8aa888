"""VIA's annotations (VGG Image Annotator 1 and 2): one JSON with the regions of all images, in pixels."""

from pathlib import Path
from typing import Any

from sparse_rcnn.data.formats.coco_fields import is_name, is_number
from sparse_rcnn.data.formats.entries import Entry, Shape, layout_of_entries
from sparse_rcnn.data.formats.json_file import has_names, number_of, read_json, shown
from sparse_rcnn.data.formats.layout import Format, Layout

__all__ = ["CLASS_NAMES", "VIA_FORMAT", "recognise", "region_of"]

CLASS_NAMES = ("class", "label", "name", "category", "type", "object")  # attributes that say the class


def recognise(path: Path) -> Layout | None:
    """A JSON of VIA, or a folder with some."""
    return layout_of_entries(path, "VIA", ".json", _is_via, _parse)


def _is_via(file: Path) -> bool:
    return has_names(file, "_via_settings") or has_names(file, "filename", "regions", "file_attributes")


def _parse(file: Path) -> list[Entry]:
    content = read_json(file)
    if isinstance(content, dict):
        content = content.get("_via_img_metadata", content)
    if not isinstance(content, dict):
        raise ValueError(f"{file}: must be an object of images, got {type(content).__name__}")
    entries = []
    for key, image in content.items():
        where = f"{file}: image {key[:80]!r}"
        fields = image if isinstance(image, dict) else {}
        name, regions = fields.get("filename"), fields.get("regions")
        if not is_name(name):
            raise ValueError(f"{where}: field 'filename' must be a name, got {shown(name)}")
        regions = list(regions.values()) if isinstance(regions, dict) else regions
        if not isinstance(regions, list):
            raise ValueError(f"{where}: field 'regions' must be a list, got {shown(regions)}")
        shapes = [
            region_of(
                region.get("shape_attributes"), region.get("region_attributes"), f"{where}: region {number}"
            )
            for number, region in enumerate(regions)
            if isinstance(region, dict)
        ]
        entries.append(Entry(str(name), shapes))
    return entries


def region_of(shape: Any, attributes: Any, where: str) -> Shape:
    """One region: the box around its shape, and the class that its attributes say."""
    named = {key: value for key, value in attributes.items() if value} if isinstance(attributes, dict) else {}
    keys = [key for key in named if key.lower() in CLASS_NAMES] or list(named)
    value = named[keys[0]] if len(keys) == 1 else None
    if isinstance(value, dict):  # a checkbox: {"cat": true}
        ticked = [name for name, on in value.items() if on]
        value = ticked[0] if len(ticked) == 1 else None
    if not is_name(value):
        expected = f"have one attribute that says the class, such as {CLASS_NAMES[0]!r}"
        raise ValueError(f"{where}: 'region_attributes' must {expected}, got {shown(attributes)}")
    return Shape(str(value).strip(), _box(shape, where), where)


def _box(shape: Any, where: str) -> tuple[float, float, float, float]:
    if isinstance(shape, dict) and "all_points_x" in shape:
        points = shape["all_points_x"], shape.get("all_points_y")
        if not all(isinstance(some, list) and some and all(map(is_number, some)) for some in points):
            raise ValueError(
                f"{where}: 'all_points_x' and 'all_points_y' must be numbers, got {shown(shape)}"
            )
        left, top = map(min, points)
        right, bottom = map(max, points)
        return left, top, right - left, bottom - top
    if isinstance(shape, dict) and "cx" in shape:
        radii = [number_of(shape, "r" if "r" in shape else side, where) for side in ("rx", "ry")]
        centre = [number_of(shape, side, where) for side in ("cx", "cy")]
        return centre[0] - radii[0], centre[1] - radii[1], 2 * radii[0], 2 * radii[1]
    x, y, width, height = (number_of(shape, side, where) for side in ("x", "y", "width", "height"))
    return x, y, width, height


VIA_FORMAT = Format("VIA", "via_region_data.json, and the images", recognise)
