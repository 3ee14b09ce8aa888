"""CVAT's own XML ("CVAT for images 1.1"): one file with all images, boxes and polygons, edges from 0."""

import math
import re
import xml.etree.ElementTree as ElementTree
from functools import partial
from pathlib import Path

import numpy as np

from sparse_rcnn.data.formats.annotated_images import AnnotatedImages, ReadOptions, make_objects
from sparse_rcnn.data.formats.class_choice import in_order
from sparse_rcnn.data.formats.coco_fields import LARGEST_NUMBER
from sparse_rcnn.data.formats.flat import FlatStrings
from sparse_rcnn.data.formats.image_folders import folder_of
from sparse_rcnn.data.formats.layout import Format, Layout, Reader, split_of
from sparse_rcnn.data.formats.located_images import locate_images
from sparse_rcnn.data.formats.split_files import one_of_each
from sparse_rcnn.data.formats.text_file import decoded
from sparse_rcnn.data.formats.voc_page import parse_xml

__all__ = ["CVAT_FORMAT", "SHAPES", "recognise"]

SHAPES = ("polygon", "polyline", "points", "mask", "ellipse", "cuboid", "skeleton")


def recognise(path: Path) -> Layout | None:
    """An XML whose outermost element is <annotations>, or a folder that holds one."""
    below = [file for folder in ("", "annotations/") for file in path.glob(folder + "*.[xX][mM][lL]")]
    files = [path] if path.is_file() else sorted(below)[:50]
    found = [file for file in files if file.suffix.lower() == ".xml" and _is_cvat(file)]
    if not found:
        return None
    root = folder_of(path) if path.is_file() else path
    named: list[tuple[str, Path, Reader]] = []
    differ = len({file.stem for file in found}) == len(found) > 1
    for file in found:
        for subset in _subsets(file) or [""]:
            name = (split_of(subset) or subset) or (file.stem if differ else "all")
            named.append((name, file, partial(_read, file, root, subset)))
    return Layout("CVAT for images", one_of_each(named, root))


def _subsets(file: Path) -> list[str]:
    """The subsets of a project that its images are in; none if all are in one."""
    subsets = sorted({*re.findall(r'<image [^>]*subset="([^"]+)"', decoded(file.read_bytes(), "replace"))})
    return subsets if len(subsets) > 1 else []


def _is_cvat(file: Path) -> bool:
    try:
        with open(file, "rb") as stream:
            return "<annotations>" in decoded(stream.read(4096), "replace")
    except OSError:
        return False


def _read(file: Path, root: Path, subset: str, options: ReadOptions) -> AnnotatedImages:
    tree = parse_xml(file)
    images = [image for image in tree.findall("image") if not subset or image.get("subset") == subset]
    if not images:
        if tree.find("track") is not None:
            how = "export the task as 'CVAT for images 1.1' or 'COCO 1.0', with its frames as images"
            raise ValueError(f"{file}: has tracks of a video ('CVAT for video 1.1'), not images: {how}")
        raise ValueError(f"{file}: the data set is empty: there are no <image> elements")
    names = [_text(image, "name", f"{file}: image {number}") for number, image in enumerate(images)]
    where = [f"{file}: image {name[:80]!r}" for name in names]
    sizes = [
        (_length(image, "height", place), _length(image, "width", place))
        for image, place in zip(images, where, strict=True)
    ]
    said = [(element.text or "").strip() for element in tree.findall(".//labels/label/name")]
    class_names = list(dict.fromkeys(name for name in said if name))
    rows = []
    for index, image in enumerate(images):
        for number, shape in enumerate(image):
            if shape.tag not in ("box", *SHAPES):
                continue
            place = f"{where[index]}: {shape.tag} {number}"
            rows.append((index, _text(shape, "label", place).strip(), _box(shape, place), place))
    class_names = class_names or in_order({name for _, name, _, _ in rows})
    if not class_names:
        raise ValueError(f"{file}: no label is named, and no object is there")
    label_of = {name: label for label, name in enumerate(class_names)}
    for _, name, _, place in rows:
        if name not in label_of:
            raise ValueError(f"{place}: label {name[:80]!r} is not among the labels {str(class_names)[:300]}")
    folders = ["images", "", "data", *([f"images/{subset}", subset] if subset else [])]
    candidates = [Path(options.images)] if options.images else [root / folder for folder in folders]
    missing_ok = options.allow_missing or options.leave_out_broken
    paths, remarks = locate_images(
        names, candidates, candidates[0] if options.images else root, file, missing_ok
    )
    objects = make_objects(
        [row[0] for row in rows],
        [label_of[row[1]] for row in rows],
        [row[2] for row in rows],
        [False] * len(rows),
    )
    return AnnotatedImages(
        FlatStrings(paths),
        np.arange(1, len(names) + 1),
        np.array(sizes, dtype=np.int64),
        class_names,
        list(range(1, len(class_names) + 1)),
        objects,
        lambda index: f"{rows[index][3]}: xywh {rows[index][2]}",
        remarks,
    )


def _box(shape: ElementTree.Element, where: str) -> tuple[float, float, float, float]:
    """The box, or the box around the points, as xywh."""
    if shape.tag == "box":
        left, top, right, bottom = (_number(shape, side, where) for side in ("xtl", "ytl", "xbr", "ybr"))
        return _turned((left, top, right - left, bottom - top), _number(shape, "rotation", where, "0"))
    if shape.get("points") is None:
        raise ValueError(f"{where}: only boxes and shapes with points can be read, got <{shape.tag}>")
    try:
        points = [
            tuple(map(float, point.split(","))) for point in shape.get("points", "").split(";") if point
        ]
        xs, ys = zip(*((x, y) for x, y in points), strict=True)
    except ValueError as error:
        got = shape.get("points", "")
        raise ValueError(f"{where}: field 'points' must be 'x,y;x,y;...', got {got!r:.80}") from error
    return min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)


def _turned(box: tuple[float, float, float, float], degrees: float) -> tuple[float, float, float, float]:
    """The box around a box that is turned about its centre."""
    if not degrees:
        return box
    left, top, width, height = box
    cos, sin = abs(math.cos(math.radians(degrees))), abs(math.sin(math.radians(degrees)))
    new_width, new_height = width * cos + height * sin, width * sin + height * cos
    return left + (width - new_width) / 2, top + (height - new_height) / 2, new_width, new_height


def _number(element: ElementTree.Element, field: str, where: str, default: str | None = None) -> float:
    text = element.get(field, default)
    try:
        number = float(text or "")
    except ValueError:
        number = LARGEST_NUMBER
    if not -LARGEST_NUMBER < number < LARGEST_NUMBER:
        got = "nothing" if text is None else f"{text!r:.80}"
        raise ValueError(f"{where}: field {field!r} must be a number, got {got}")
    return number


def _length(element: ElementTree.Element, field: str, where: str) -> int:
    number = _number(element, field, where)
    if number != int(number) or not 0 < number < 2**31:
        raise ValueError(f"{where}: field {field!r} must be a positive integer, got {element.get(field)!r}")
    return int(number)


def _text(element: ElementTree.Element, field: str, where: str) -> str:
    text = element.get(field)
    if text is None or not text.strip():
        raise ValueError(f"{where}: field {field!r} must be a name, got {text!r}")
    return text


CVAT_FORMAT = Format("CVAT for images", "annotations.xml of CVAT for images 1.1, and images/", recognise)
