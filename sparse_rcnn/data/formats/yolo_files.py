"""Tells the text files of a YOLO data set apart: labels, lists of images, names of classes."""

from pathlib import Path

from sparse_rcnn.data.formats.data_folders import above
from sparse_rcnn.data.formats.data_yaml import read_names
from sparse_rcnn.data.formats.image_names import is_image
from sparse_rcnn.data.formats.text_file import lines_of
from sparse_rcnn.data.formats.yolo import read_labels

__all__ = ["NAME_FILES", "class_names", "is_label_file", "is_list", "is_name_file", "names_file"]

NAME_FILES = (
    "classes.txt",
    "obj.names",
    "*.names",
    "_darknet.labels",
    "labels.txt",
    "class_names.txt",
    "predefined_classes.txt",
)


def class_names(root: Path) -> tuple[list[str] | None, tuple[str, ...]]:
    """The names in the nearest file of names, None if there is none; and a remark if it is outside."""
    file = names_file(root)
    if file is None:
        return None, ()
    outside = file.parent == above(root)
    return read_names(file), (
        (f"{root}: no file in it names the classes; their names are those of {file}",) if outside else ()
    )


def names_file(root: Path) -> Path | None:
    """The nearest file of class names: at the top, below it, or beside the folder.

    Raises:
        ValueError: If two folders, as of two splits, have such a file with different names.
    """
    below = [root / "labels", root / "train", root / "data"]
    for folder in (root, *below, *sorted(root.glob("*/")), *sorted(root.glob("*/*/")), above(root)):
        for pattern in NAME_FILES:
            for file in sorted(folder.glob(pattern)):
                if not (file.name == "labels.txt" and is_label_file(file)):
                    for other in sorted(root.glob(f"*/{file.name}")):
                        if read_names(other) != read_names(file):
                            raise ValueError(f"{file} and {other} name different classes")
                    return file
    return None


def is_name_file(file: Path) -> bool:
    """Whether a file has the name of a file of class names, and holds no labels."""
    return any(file.match(pattern) for pattern in NAME_FILES) and not is_label_file(file)


def is_label_file(file: Path) -> bool:
    """Whether a file holds lines of labels, and nothing else."""
    try:
        return bool(read_labels(file, None))
    except ValueError:
        return False


def is_list(file: Path) -> bool:
    """Whether the first line names an image file."""
    try:
        return is_image(next(iter(lines_of(file)), ""))
    except ValueError:
        return False
