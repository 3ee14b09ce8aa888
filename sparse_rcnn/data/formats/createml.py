"""CreateML's annotations: a JSON list of images, with the centre and the size of each box in pixels."""

from pathlib import Path

from sparse_rcnn.data.formats.coco_fields import is_name
from sparse_rcnn.data.formats.entries import Entry, Shape, layout_of_entries
from sparse_rcnn.data.formats.json_file import has_names, number_of, read_json, shown
from sparse_rcnn.data.formats.layout import Format, Layout

__all__ = ["CREATEML_FORMAT", "recognise"]


def recognise(path: Path) -> Layout | None:
    """A JSON of CreateML, or a folder with some."""
    return layout_of_entries(path, "CreateML", ".json", _is_createml, _parse)


def _is_createml(file: Path) -> bool:
    fields = "annotations", "coordinates"
    return has_names(file, *fields, "image") or has_names(file, *fields, "imagefilename")


def _parse(file: Path) -> list[Entry]:
    content = read_json(file)
    if not isinstance(content, list):
        raise ValueError(f"{file}: must be a list of images, got {type(content).__name__}")
    entries = []
    for number, image in enumerate(content):
        where = f"{file}: image {number}"
        fields = image if isinstance(image, dict) else {}
        name = fields.get("image", fields.get("imagefilename"))
        if not is_name(name):
            raise ValueError(f"{where}: field 'image' must be a name, got {shown(name)}")
        annotations = fields.get("annotations", fields.get("annotation"))
        if not isinstance(annotations, list):
            raise ValueError(f"{where}: field 'annotations' must be a list, got {shown(annotations)}")
        shapes = []
        for position, annotation in enumerate(annotations):
            place = f"{where}: annotation {position}"
            label = annotation.get("label") if isinstance(annotation, dict) else None
            if not is_name(label):
                raise ValueError(f"{place}: field 'label' must be a name, got {shown(label)}")
            sides = annotation.get("coordinates")
            x, y, width, height = (number_of(sides, side, place) for side in ("x", "y", "width", "height"))
            shapes.append(Shape(str(label).strip(), (x - width / 2, y - height / 2, width, height), place))
        entries.append(Entry(str(name), shapes))
    return entries


CREATEML_FORMAT = Format("CreateML", "_annotations.createml.json, and the images", recognise)
