"""The split of an annotation file, and the folders of its images, from the place of the file."""

import os
import re
from pathlib import Path

from sparse_rcnn.data.formats.layout import split_of

__all__ = ["IMAGE_FOLDERS", "folder_of", "image_folders", "split_of_file", "word_of"]

IMAGE_FOLDERS = ("", "images", "Images", "image", "imgs", "img", "JPEGImages", "data", "images/default")


def folder_of(file: Path) -> Path:
    """The folder of the data set that a file belongs to; images/ may be beside annotations/."""
    inside = file.absolute().parent.name.lower() == "annotations"
    return Path(os.path.normpath(file.parent / "..")) if inside else file.parent


def split_of_file(file: Path, root: Path) -> str:
    """The split in the name of a file, or in the name of its folder."""
    names = (re.sub(r"\.coco$", "", file.stem), *file.parent.relative_to(root).parts[::-1])
    splits = [split for name in names if (split := split_of(name)) not in (None, "all")]
    return splits[0] if splits else "all"


def word_of(file: Path, split: str) -> str:
    """The part that says the split: "train2017" of "instances_train2017.json"."""
    words = re.findall(r"[A-Za-z]+\d*", file.stem)
    return next((word for word in words if split_of(word) == split), file.stem)


def image_folders(file: Path, root: Path) -> list[Path]:
    """Folders that the names in a file may be relative to, by preference."""
    split = split_of(file.stem) or ""
    words = [word for word in re.findall(r"[A-Za-z]+\d*", file.stem) if split and split_of(word) == split]
    aliases = {"val": ["val", "valid", "validation"], "all": ["default"]}.get(split, [split] if split else [])
    bases = list(dict.fromkeys([file.parent, root, file.parent.parent if file.parent != root else root]))
    found = [
        base / inner / word for word in [*words, *aliases] for base in bases for inner in IMAGE_FOLDERS[:-1]
    ]
    found += [base / word / "images" for word in [*words, *aliases] for base in bases]
    found += [base / inner for base in bases for inner in IMAGE_FOLDERS]
    return found
