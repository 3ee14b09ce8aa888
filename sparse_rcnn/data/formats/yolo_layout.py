"""Folders with YOLO's label files: Ultralytics' and Roboflow's data.yaml, Darknet's .data, or none."""

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from sparse_rcnn.data.formats.annotated_images import AnnotatedImages, ReadOptions
from sparse_rcnn.data.formats.counted import counted
from sparse_rcnn.data.formats.data_folders import files_below
from sparse_rcnn.data.formats.data_yaml import SPLITS, DataFile, read_data_file, read_data_yaml, read_names
from sparse_rcnn.data.formats.image_index import ImageIndex, once_each
from sparse_rcnn.data.formats.image_names import images_below, missing_message, suffix_order
from sparse_rcnn.data.formats.layout import Format, Layout, key_of, several_data_sets, split_of, split_of_path
from sparse_rcnn.data.formats.text_file import read_text
from sparse_rcnn.data.formats.yolo import read_yolo
from sparse_rcnn.data.formats.yolo_files import class_names, is_label_file, is_list, is_name_file, names_file
from sparse_rcnn.data.formats.yolo_places import read_listed

__all__ = ["LOOKED_AT", "NO_LABELS", "YOLO_FORMAT", "recognise"]

NO_LABELS = ("readme", "notes", "requirements", "license")
LOOKED_AT = 8  # text files that are looked into to recognise the format


def recognise(path: Path) -> Layout | None:
    """A data.yaml, a Darknet .data, a list of images, or a folder with one of them or with label files."""
    if path.is_file():
        suffix = path.suffix.lower()
        if suffix in (".yaml", ".yml"):
            return _described(read_data_yaml(path))
        if suffix == ".data":
            return _described(read_data_file(path))
        if suffix == ".txt" and is_list(path):
            names, said = class_names(path.parent)
            read = partial(read_listed, [str(path)], path.parent, names, path, False)
            return Layout("YOLO", {"all": read}, said)
        return None
    for folder in ("", "*/", "*/*/"):
        for pattern in ("data.yaml", "data.yml", "dataset.yaml", "*.yaml", "*.yml", "*.data"):
            files = sorted(path.glob(folder + pattern))
            found = {file: layout for file in files if (layout := _look(file)) is not None}
            if len(found) > 1:
                raise several_data_sets(path, found)
            if found:
                return next(iter(found.values()))
    return _undescribed(path)


def _look(file: Path) -> Layout | None:
    """A file of a folder, which may be about something else."""
    if file.suffix == ".data":
        return _described(read_data_file(file))
    try:
        text = read_text(file)
    except ValueError:
        return None
    said = {line.split(":")[0].strip() for line in text.splitlines() if line[:1].strip()}
    if not ({"names", "nc"} & said and {*SPLITS} & said):
        return None
    return _described(read_data_yaml(file))


def _described(data: DataFile | None) -> Layout | None:
    if data is None:
        return None
    names, remarks = data.class_names, list(data.remarks)
    if names is None and (there := names_file(data.root)) is not None:
        names = read_names(there)
        if data.num_classes not in (None, len(names)):
            raise ValueError(
                f"{data.file}: field 'nc' says {data.num_classes} classes, but {there} has {len(names)}"
            )
        remarks.append(f"{data.file} names no classes; their names are those of {there}")
    elif names is None and data.num_classes:
        names = [str(label) for label in range(data.num_classes)]
        remarks.append(f"{data.file} names no classes; they are called 0 to {data.num_classes - 1}")
    splits = {
        split: partial(read_listed, places, data.root, names, data.file, data.keypoints)
        for split, places in data.splits.items()
    }
    return Layout("YOLO", dict(splits), tuple(remarks))


def _undescribed(root: Path) -> Layout | None:
    """A folder of label files, with a file of class names or without."""
    labels = [
        file
        for file in files_below(root, ".txt")
        if not os.path.basename(file).lower().startswith(NO_LABELS) and not is_name_file(root / file)
    ]
    lists = {file for file in labels if "/" not in file and is_list(root / file)}
    names, said = class_names(root)
    rest = [file for file in labels if file not in lists]
    some = [file for file in rest[:LOOKED_AT] if is_label_file(root / file)]
    if not some and not (names and rest):
        return None
    by_list: dict[str, list[str]] = {}
    for file in sorted(lists):
        if split := split_of(Path(file).stem):
            by_list.setdefault(split, []).append(str(root / file))
    if by_list:
        return Layout(
            "YOLO",
            {
                split: partial(read_listed, files, root, names, Path(files[0]), False)
                for split, files in by_list.items()
            },
            said,
        )
    images = images_below(root)
    groups = {split_of_path(image) or "all" for image in images} or {"all"}
    return Layout(
        "YOLO", {split: partial(_read_paired, root, split, rest, names) for split in sorted(groups)}, said
    )


def _read_paired(
    root: Path, split: str, labels: Sequence[str], names: list[str] | None, options: ReadOptions
) -> AnnotatedImages:
    """Images and label files of the same name."""
    base = Path(options.images) if options.images else root
    images = sorted(images_below(base), key=suffix_order)
    index = ImageIndex(base, images)
    wanted = {image for image in images if options.images or (split_of_path(image) or "all") == split}
    matched = index.match(dict.fromkeys(labels))
    once, remarks = once_each({file: image for file, image in matched.items() if image in wanted}, root)
    label_of = {image: file for file, image in once.items()}
    lost = [file for file in labels if file not in matched]
    if lost and not (options.leave_out_broken or options.allow_missing):
        raise ValueError(missing_message(lost, len(labels), f"in {base}: no image of the label files", root))
    chosen = sorted(_once(wanted))
    files = [str(root / label_of[image]) if image in label_of else None for image in chosen]
    content = read_yolo([str(base / image) for image in chosen], files, names, root, options)
    if lost:
        said = counted(len(lost), "label file has", "label files have")
        remarks.append(f"{root}: {said} no image, such as {lost[0]}")
    return content._replace(remarks=[*content.remarks, *remarks])


def _once(images: set[str]) -> list[str]:
    """One image of each name, of the most preferred format."""
    by_key: dict[str, str] = {}
    for image in sorted(images, key=suffix_order):
        by_key.setdefault(key_of(image), image)
    return list(by_key.values())


YOLO_FORMAT = Format(
    "YOLO",
    "data.yaml with train, val and names, or a text file of 'class cx cy w h' for each image (in labels/ or "
    "beside it) and classes.txt",
    recognise,
)
