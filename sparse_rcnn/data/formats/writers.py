"""Data sets written in COCO's, YOLO's or VOC's format, with their images, so that they read back the same."""

import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from xml.sax.saxutils import escape

import numpy as np

from sparse_rcnn.data.formats.detection_dataset import DetectionDataset
from sparse_rcnn.data.formats.voc_page import COUNTED_FROM

__all__ = ["WRITERS", "write_dataset"]


def write_dataset(splits: Mapping[str, DetectionDataset], directory: str | Path, format: str) -> list[str]:
    """Writes the splits of a data set into a new folder. The image files are copied without a change.

    Boxes are not clipped. COCO's format stores everything. VOC's cannot store ids, areas and classes without
    boxes. YOLO's cannot store ids, areas and ignored regions.

    Args:
        splits: Data sets by the name of the split.
        directory: A folder that does not exist or is empty.
        format: "coco", "yolo" or "voc".

    Returns:
        Remarks about what the format cannot store.

    Raises:
        ValueError: If the format is unknown, the folder is not empty, or the splits have different classes.

    Example:
        >>> from sparse_rcnn.data import ShapesDataset
        >>> remarks = write_dataset({"val": ShapesDataset("shapes", "val", num_images=2)}, "yolo", "yolo")
        >>> Path("yolo/data.yaml").exists()
        True
    """
    if format not in WRITERS:
        raise ValueError(f"the format must be one of {list(WRITERS)}, got {format!r}")
    root = Path(directory)
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise ValueError(f"{root}: is there and not empty; give a new folder")
    first = next(iter(splits.values()))
    if any(dataset.class_names != first.class_names for dataset in splits.values()):
        raise ValueError("the splits have different classes")
    remarks = []
    for split, dataset in splits.items():
        names = _names(dataset)
        folder = {"coco": f"images/{split}", "yolo": f"images/{split}", "voc": f"JPEGImages/{split}"}[format]
        for path, name in zip(dataset.image_paths, names, strict=True):
            target = root / folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
        remarks += WRITERS[format](root, split, dataset, names)
    if format == "yolo":
        places = "".join(f"{split}: images/{split}\n" for split in splits)
        labels = "".join(
            f"  {label}: {json.dumps(name, ensure_ascii=False)}\n"
            for label, name in enumerate(first.class_names)
        )
        (root / "data.yaml").write_text(f"path: .\n{places}names:\n{labels}", encoding="utf-8")
    return remarks


def _names(dataset: DetectionDataset) -> list[str]:
    """Relative paths of the images, of which no two differ in their suffix alone."""
    folders = [os.path.dirname(os.path.abspath(path)) for path in dataset.image_paths]
    base = os.path.commonpath(folders)
    taken: set[str] = set()
    names = []
    for path in dataset.image_paths:
        stem, suffix = os.path.splitext(os.path.relpath(os.path.abspath(path), base).replace(os.sep, "/"))
        unique, number = stem, 2
        while unique in taken:
            unique, number = f"{stem}-{number}", number + 1
        taken.add(unique)
        names.append(unique + suffix)
    return names


def _write_coco(root: Path, split: str, dataset: DetectionDataset, names: list[str]) -> list[str]:
    truth = dataset.coco_ground_truth()
    for image, name in zip(truth["images"], names, strict=True):
        image["file_name"] = name
    file = root / "annotations" / f"instances_{split}.json"
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(truth), encoding="utf-8")
    return []


def _objects(dataset: DetectionDataset, index: int) -> list[tuple[str, int, list[float], bool]]:
    """Class name, label, xywh as written, and whether it is ignored."""
    columns = dataset.annotations
    first, last = np.searchsorted(columns.image_indices, [index, index + 1]).tolist()
    return [
        (dataset.class_names[label], label, box, crowd)
        for label, box, crowd in zip(
            columns.labels[first:last].tolist(),
            columns.written_boxes[first:last].tolist(),
            columns.is_crowd[first:last].tolist(),
            strict=True,
        )
    ]


def _write_yolo(root: Path, split: str, dataset: DetectionDataset, names: list[str]) -> list[str]:
    for index, name in enumerate(names):
        height, width = dataset.image_sizes[index]
        rows = [
            f"{label} {(x + w / 2) / width!r} {(y + h / 2) / height!r} {w / width!r} {h / height!r}\n"
            for _, label, (x, y, w, h), crowd in _objects(dataset, index)
            if not crowd
        ]
        file = root / "labels" / split / (os.path.splitext(name)[0] + ".txt")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("".join(rows))
    if not dataset.num_crowd:
        return []
    return [f"{split}: {dataset.num_crowd} ignored regions are left out: YOLO has none"]


def _write_voc(root: Path, split: str, dataset: DetectionDataset, names: list[str]) -> list[str]:
    stems = [f"{split}/{os.path.splitext(name)[0]}" for name in names]
    for index, (name, stem) in enumerate(zip(names, stems, strict=True)):
        height, width = dataset.image_sizes[index]
        objects = "".join(
            f"<object><name>{escape(label)}</name><difficult>{int(crowd)}</difficult><bndbox>"
            f"<xmin>{_short(x + 1)}</xmin><ymin>{_short(y + 1)}</ymin>"
            f"<xmax>{_short(x + w)}</xmax><ymax>{_short(y + h)}</ymax></bndbox></object>\n"
            for label, _, (x, y, w, h), crowd in _objects(dataset, index)
        )
        file = root / "Annotations" / f"{stem}.xml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(
            f"<annotation><filename>{escape(os.path.basename(name))}</filename>"
            f"<{COUNTED_FROM}>1</{COUNTED_FROM}>\n<size><width>{width}</width><height>{height}</height>"
            f"<depth>3</depth></size>\n{objects}</annotation>\n",
            encoding="utf-8",
        )
    file = root / "ImageSets" / "Main" / f"{split}.txt"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(f"{stem}\n" for stem in stems), encoding="utf-8")
    used = {*dataset.annotations.labels.tolist()}
    empty = [name for label, name in enumerate(dataset.class_names) if label not in used]
    if not empty:
        return []
    lost = f"{len(empty)} without boxes, such as {empty[0]}, may be lost"
    return [f"{split}: VOC has no list of classes: {lost}"]


def _short(number: float) -> str:
    return str(int(number)) if number == int(number) else repr(number)


WRITERS: dict[str, Callable[[Path, str, DetectionDataset, list[str]], list[str]]] = {
    "coco": _write_coco,
    "yolo": _write_yolo,
    "voc": _write_voc,
}
