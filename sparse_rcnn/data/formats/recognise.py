"""Finds the format of a folder by the names and the beginnings of its files."""

from itertools import islice
from pathlib import Path

from sparse_rcnn.data.formats.coco_layout import COCO_FORMAT
from sparse_rcnn.data.formats.createml import CREATEML_FORMAT
from sparse_rcnn.data.formats.crowdhuman import CROWDHUMAN_FORMAT
from sparse_rcnn.data.formats.csv_table import CSV_FORMAT
from sparse_rcnn.data.formats.cvat_xml import CVAT_FORMAT
from sparse_rcnn.data.formats.data_folders import PICTURES, is_of_results
from sparse_rcnn.data.formats.labelme import LABELME_FORMAT
from sparse_rcnn.data.formats.layout import (
    SPLIT_NAMES,
    Format,
    Layout,
    says_something,
    several_data_sets,
    split_of,
)
from sparse_rcnn.data.formats.unknown_layout import unknown_layout
from sparse_rcnn.data.formats.via import VIA_FORMAT
from sparse_rcnn.data.formats.voc_layout import VOC_FORMAT
from sparse_rcnn.data.formats.yolo_layout import YOLO_FORMAT

__all__ = [
    "FORMATS",
    "OTHER_FORMATS",
    "WEIGHTS",
    "name_of_split",
    "names_alike",
    "names_in_order",
    "recognise",
]

WEIGHTS = (".pth", ".pt", ".pt2", ".onnx", ".safetensors")  # files of detectors
# In the order in which they are tried. A new format is a file and an entry here.
FORMATS: tuple[Format, ...] = (COCO_FORMAT, CROWDHUMAN_FORMAT, CVAT_FORMAT, VOC_FORMAT, YOLO_FORMAT)
# They are tried last. Tables beside XML files often hold the same boxes in other splits.
OTHER_FORMATS: tuple[Format, ...] = (LABELME_FORMAT, VIA_FORMAT, CREATEML_FORMAT, CSV_FORMAT)


def recognise(path: Path, split: str = "train") -> Layout:
    """The layout of a folder or file.

    Args:
        path: The folder or file.
        split: Where a folder holds two formats, the first that has this split is taken.

    Raises:
        ValueError: If no format recognises it.
    """
    if not path.exists():
        raise unknown_layout(path, (*FORMATS, *OTHER_FORMATS))
    if path.suffix.lower() in WEIGHTS and path.is_file():
        raise ValueError(f"{path}: is a detector, but a data set is needed: its folder or annotations")
    path = _inside(path)
    for formats in (FORMATS, OTHER_FORMATS):
        found = []
        for known in formats:
            layout = known.recognise(path)
            if layout is not None:
                if _has(layout, split):
                    return layout
                found.append(layout)
        if found:
            return found[0]
    return _recognise_below(path)


def _inside(path: Path) -> Path:
    """The only folder in a folder, as archives have it; but not train/ or images/."""
    for _ in range(2):
        several = (one for one in path.iterdir() if not _is_clutter(one)) if path.is_dir() else ()
        beside = list(islice(several, 2))
        if len(beside) != 1 or not beside[0].is_dir() or says_something(beside[0].name):
            break
        path = beside[0]
    return path


def _is_clutter(path: Path) -> bool:
    return (
        path.name.startswith((".", "__MACOSX"))
        or path.name.lower() in ("thumbs.db", "desktop.ini", *PICTURES)
        or (path.is_dir() and is_of_results(path))
    )


def _recognise_below(path: Path) -> Layout:
    """The layout of the only folder, one or two levels deeper, that has one: VOCdevkit/VOC2012."""
    folders = _folders(path) if path.is_dir() else []
    for level in (folders, [below for folder in folders for below in _folders(folder)]):
        found = {
            folder: layout for folder in level for known in FORMATS if (layout := known.recognise(folder))
        }
        if len(found) > 1:
            raise several_data_sets(path, found)
        if found:
            return next(iter(found.values()))
    raise unknown_layout(path, (*FORMATS, *OTHER_FORMATS))


def _folders(path: Path) -> list[Path]:
    return sorted(folder for folder in path.glob("*/") if folder.is_dir() and not is_of_results(folder))


def _has(layout: Layout, split: str) -> bool:
    return name_of_split(layout, split) is not None or (split in ("train", "val") and "all" in layout.splits)


def names_in_order(layout: Layout) -> list[str]:
    """The names of the splits: those that every data set has, then others."""
    first = [name for name in ("train", "trainval", "val", "test") if name in layout.splits]
    return [*first, *(name for name in layout.splits if name not in first)]


def name_of_split(layout: Layout, split: str) -> str | None:
    """The name that a layout has for a split."""
    for name in (split, SPLIT_NAMES.get(split.lower())):
        if name in layout.splits:
            return name
    if split == "train" and "trainval" in layout.splits:
        return "trainval"
    alike = names_alike(layout, split)
    return alike[0] if len(alike) == 1 else None  # train2017


def names_alike(layout: Layout, split: str) -> list[str]:
    """All names that say a split: val, val2014 and minival."""
    return [name for name in layout.splits if split_of(name) == SPLIT_NAMES.get(split.lower(), "")]
