"""The columns of a table of boxes: their names say what is in them."""

import re

__all__ = [
    "BOXES",
    "CENTRE",
    "COLUMNS",
    "CORNERS",
    "IMAGE",
    "LIST",
    "NUMBERS",
    "REGION",
    "WITHOUT_HEADER",
    "columns_of",
    "plain_name",
    "what_is_missing",
]

# Names of columns in lower case, without spaces, "_" and "-", by preference.
IMAGE = (
    *("filename", "image", "imagename", "imageid", "imagepath", "imagefile", "imagefilename"),
    *("path", "filepath", "img", "imgname", "imgpath", "file"),
)
COLUMNS: dict[str, tuple[str, ...]] = {
    "image": IMAGE,
    "class": (
        *("classname", "labelname", "categoryname", "objectname", "class", "label", "category", "object"),
        *("species", "objectclass", "classes", "labels", "name", "classid", "labelid", "categoryid"),
    ),
    "left": ("xmin", "x1", "left", "xtl"),
    "top": ("ymin", "y1", "top", "ytl"),
    "right": ("xmax", "x2", "right", "xbr"),
    "bottom": ("ymax", "y2", "bottom", "ybr"),
    "x": ("x", "bboxx"),
    "y": ("y", "bboxy"),
    "cx": ("cx", "xcenter", "xcentre", "centerx", "centrex", "xc"),
    "cy": ("cy", "ycenter", "ycentre", "centery", "centrey", "yc"),
    "w": ("w", "bboxwidth", "bboxw", "boxwidth"),
    "h": ("h", "bboxheight", "bboxh", "boxheight"),
    "box": ("bbox",),
    "width": ("imagewidth", "imgwidth", "width"),  # of the image
    "height": ("imageheight", "imgheight", "height"),
    "shape": ("regionshapeattributes",),
    "attributes": ("regionattributes",),
    "group": ("isgroupof",),
}
CORNERS, CENTRE = ("left", "top", "right", "bottom"), ("cx", "cy", "w", "h")
LIST, REGION = ("box",), ("shape", "attributes")
BOXES = (CORNERS, ("left", "top", "w", "h"), ("x", "y", "w", "h"), CENTRE, LIST, REGION)
# Lines without names of columns, by their number of fields: keras-retinanet's and makesense's.
WITHOUT_HEADER = {
    6: ("image", "left", "top", "right", "bottom", "class"),
    8: ("class", "x", "y", "w", "h", "image", "width", "height"),
}
NUMBERS = {*CORNERS, *CENTRE, "x", "y", "width", "height"}


def plain_name(name: str) -> str:
    """The name of a column in one spelling: "Class Name" and "class_name" are the same."""
    return re.sub(r"[\s_-]+", "", name).lower()


def columns_of(head: list[str]) -> dict[str, int] | None:
    """The index of each known column. None if the table has no boxes."""
    names = [*map(plain_name, head)]
    found = {
        kind: names.index(name) for kind, known in COLUMNS.items() for name in known[::-1] if name in names
    }
    # Beside a corner or a centre alone, width and height are those of the box.
    if not {"right", "w"} & {*found} and {"left", "cx"} & {*found} and {"width", "height"} <= {*names}:
        found |= {"w": names.index("width"), "h": names.index("height")}
        found = {
            kind: place
            for kind, place in found.items()
            if names[place] not in ("width", "height") or kind in "wh"
        }
    if "image" in found and any(all(kind in found for kind in kinds) for kinds in BOXES):
        return found
    kinds = WITHOUT_HEADER.get(len(head), ())
    numbers = [
        name.strip() for kind, name in zip(kinds, head, strict=False) if kind not in ("image", "class")
    ]
    if kinds and all(re.fullmatch(r"-?\d*\.?\d*", number) for number in numbers):
        return {kind: place for place, kind in enumerate(kinds)}
    return None


def what_is_missing(head: list[str]) -> str:
    """What is missing in the first line of a table, for messages."""
    names = [*map(plain_name, head)]
    if not any(name in IMAGE for name in names):
        return "no column names the image, such as filename"
    if {"x", "y", "width", "height"} <= {*names}:
        return "x, y may be the corner or the centre of a box: call them left, top or cx, cy"
    return "no columns say the box, such as xmin, ymin, xmax, ymax"
