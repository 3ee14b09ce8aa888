"""Writes data sets in COCO's, YOLO's or VOC's format, with their images."""

import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from xml.sax.saxutils import escape

import numpy as np

from sparse_rcnn.data.formats.counted import counted
from sparse_rcnn.data.formats.detection_dataset import DetectionDataset
from sparse_rcnn.data.formats.image_sizes import DEFAULTS, read_image_sizes
from sparse_rcnn.data.formats.voc_page import COUNTED_FROM

__all__ = ["WRITERS", "write_dataset"]


def write_dataset(splits: Mapping[str, DetectionDataset], directory: str | Path, format: str) -> list[str]:
    """Writes the splits of a data set into a new folder. The image files are copied without a change.

    Boxes are not clipped. COCO's format stores all that a data set has, which is no outlines (segmentations).
    VOC's cannot store ids, areas, the order of classes and classes without boxes. YOLO's cannot store ids,
    areas and ignored regions. `VocDetection(directory, split)` reads VOC's. So does torchvision if images
    are .jpg and the folder is VOCdevkit/VOC2012.

    Args:
        splits: Data sets by the name of the split.
        directory: A folder that does not exist or is empty.
        format: "coco", "yolo" or "voc".

    Returns:
        Remarks about what the format cannot store.

    Raises:
        ValueError: If the format is unknown, the folder is not empty, the splits have different classes, or
            boxes for YOLO are of the stored pixels of an image that EXIF turns.

    Example:
        >>> from pathlib import Path
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
    _refuse_other_classes(splits)
    if format == "yolo":
        for dataset in splits.values():
            _refuse_turned(dataset)
    remarks = []
    taken: dict[str, str] = {}
    for split, dataset in splits.items():
        taken = taken if format == "voc" else {}  # one folder for all splits
        names = _names(dataset, taken, flat=format == "voc")
        folder = "JPEGImages" if format == "voc" else f"images/{split}"
        for path, name in zip(dataset.image_paths, names, strict=True):
            target = root / folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
        remarks += [f"{split}: {lost}" for lost in _lost(dataset, format)]
        remarks += WRITERS[format](root, split, dataset, names)
    if format == "yolo":
        places = "".join(f"{split}: images/{split}\n" for split in splits)
        labels = "".join(
            f"  {label}: {json.dumps(name, ensure_ascii=False)}\n"
            for label, name in enumerate(next(iter(splits.values())).class_names)
        )
        (root / "data.yaml").write_text(f"path: .\n{places}names:\n{labels}", encoding="utf-8")
    return remarks


def _refuse_other_classes(splits: Mapping[str, DetectionDataset]) -> None:
    start, first = next(iter(splits.items()))
    for split, dataset in splits.items():
        if dataset.class_names != first.class_names:
            alone = sorted({*dataset.class_names} ^ {*first.class_names})
            how = f"not in both: {', '.join(alone[:5])}" if alone else "in another order"
            raise ValueError(
                f"the splits {start} and {split} have different classes ({how}): open all with the same "
                "class_names (--classes)"
            )


def _names(dataset: DetectionDataset, taken: dict[str, str], flat: bool) -> list[str]:
    """Relative paths of the images, of which no two differ in their suffix alone.

    Args:
        dataset: The data set.
        taken: The image of each name without suffix that was given before; it is added to.
        flat: Underscores in place of folders.
    """
    paths = [os.path.abspath(path) for path in dataset.image_paths]
    base = os.path.commonpath([os.path.dirname(path) for path in paths])
    names: list[str] = []
    given: set[str] = set()  # in this split: an image that is listed twice is written twice
    for path in paths:
        stem, suffix = os.path.splitext(os.path.relpath(path, base).replace(os.sep, "_" if flat else "/"))
        unique, number = stem, 2
        while unique in given or taken.setdefault(unique, path) != path:
            unique, number = f"{stem}-{number}", number + 1
        given.add(unique)
        names.append(unique + suffix)
    return names


def _refuse_turned(dataset: DetectionDataset) -> None:
    """YOLO's boxes are shares of the sides of the image as it is read. The format has no size."""
    options = DEFAULTS._replace(exif_orientation=dataset.exif_orientation, max_pixels=dataset.max_pixels)
    found, _ = read_image_sizes(dataset.image_paths, options)
    sizes = np.array(list(dataset.image_sizes)).reshape(-1, 2)
    turned = np.flatnonzero((found == sizes[:, ::-1]).all(axis=1) & (found != sizes).any(axis=1))
    if len(turned):
        raise ValueError(
            f"{counted(len(turned), 'image is', 'images are')} turned by EXIF, such as "
            f"{dataset.image_paths[int(turned[0])]}, but the boxes are of the stored pixels: YOLO's format "
            "cannot say that; write COCO's or VOC's"
        )


def _lost(dataset: DetectionDataset, format: str) -> list[str]:
    """What the boxes have and the format cannot store."""
    columns = dataset.annotations
    own = columns.written_boxes[:, 2] * columns.written_boxes[:, 3]
    outlined = int(np.count_nonzero(~np.isclose(columns.areas, own, rtol=1e-6, atol=1e-6)))
    if format == "coco":
        said = counted(outlined, "box has", "boxes have")
        return [f"{said} an area of an outline: the area is written, outlines are not"] if outlined else []
    remarks = []
    if outlined:
        said = counted(outlined, "area of an outline becomes", "areas of outlines become")
        remarks.append(f"{said} that of the box: the format has no areas")
    numbers = ([*range(1, 1 + len(ids))] for ids in (dataset.image_ids, dataset.category_ids))
    if [[*dataset.image_ids], dataset.category_ids] != [*numbers]:
        remarks.append("ids of images and classes are numbered anew: the format has none")
    if format == "voc" and dataset.class_names != sorted(dataset.class_names):
        remarks.append("classes come back in the order of the alphabet: VOC has no list of them")
    return remarks


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
    said = counted(dataset.num_crowd, "ignored region is", "ignored regions are")
    return [f"{split}: {said} left out: YOLO has none"]


def _write_voc(root: Path, split: str, dataset: DetectionDataset, names: list[str]) -> list[str]:
    stems = [os.path.splitext(name)[0] for name in names]
    for index, (name, stem) in enumerate(zip(names, stems, strict=True)):
        height, width = dataset.image_sizes[index]
        objects = "".join(
            f"<object><name>{escape(label)}</name><pose>Unspecified</pose><truncated>0</truncated>"
            f"<difficult>{int(crowd)}</difficult><bndbox>"
            f"<xmin>{_short(x + 1)}</xmin><ymin>{_short(y + 1)}</ymin>"
            f"<xmax>{_short(x + w)}</xmax><ymax>{_short(y + h)}</ymax></bndbox></object>\n"
            for label, _, (x, y, w, h), crowd in _objects(dataset, index)
        )
        file = root / "Annotations" / f"{stem}.xml"
        file.parent.mkdir(exist_ok=True)
        page = (
            f"<annotation><folder>{escape(root.name)}</folder><filename>{escape(name)}</filename>"
            f"<{COUNTED_FROM}>1</{COUNTED_FROM}>\n<size><width>{width}</width><height>{height}</height>"
            f"<depth>3</depth></size>\n<segmented>0</segmented>\n{objects}</annotation>\n"
        )
        if file.exists() and file.read_text(encoding="utf-8") != page:
            raise ValueError(f"{name}: is in two splits with different boxes: VOC has one file for both")
        file.write_text(page, encoding="utf-8")
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
