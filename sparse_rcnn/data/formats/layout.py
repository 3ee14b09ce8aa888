"""A format of data sets: it recognises its layout in a folder, and has a reader for each split.

A new format is one file with a `Format` and a line in `recognise.py`:

    def recognise(path: Path) -> Layout | None: ...   # looks, and reads nothing large
    def read(options: ReadOptions) -> AnnotatedImages: ...   # one for each split, in Layout.splits
    MY_FORMAT = Format("My format", "annotations.txt beside the images", recognise)
"""

import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple, Protocol

from sparse_rcnn.data.formats.annotated_images import AnnotatedImages, ReadOptions

__all__ = [
    "ROLES",
    "SPLITS",
    "SPLIT_NAMES",
    "Format",
    "Layout",
    "Reader",
    "key_of",
    "of_split",
    "says_something",
    "several_data_sets",
    "split_of",
    "split_of_path",
]

SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "trn": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "eval": "val",
    "evaluation": "val",
    "minival": "val",
    "test": "test",
    "testing": "test",
    "trainset": "train",
    "valset": "val",
    "devset": "val",
    "testset": "test",
    "trainval": "trainval",
    "default": "all",
    "all": "all",
}
SPLITS = {*SPLIT_NAMES} - {"default", "all"}
# Folders that say what kind of files they hold: images/train/a.jpg and annotations/train/a.xml.
ROLES = {
    *("images", "image", "imgs", "img", "jpegimages", "pictures", "photos"),
    *("annotations", "annotation", "annots", "annot", "anns", "xmls", "xml", "labels", "label", "default"),
}


class Reader(Protocol):
    """Reads one split."""

    def __call__(self, options: ReadOptions) -> AnnotatedImages:
        """Reads the split. Raises ValueError that names file, entry, field and value."""


class Layout(NamedTuple):
    """A folder that was recognised.

    Attributes:
        format: Name of the format.
        splits: A reader for each split, by its name: "train", "val", "test", another name that the files
            have, or "all" where they have no splits.
        remarks: What is odd about the layout.
    """

    format: str
    splits: dict[str, Reader]
    remarks: tuple[str, ...] = ()


class Format(NamedTuple):
    """A format of annotations.

    Attributes:
        name: For messages.
        expected: What a folder of this format holds, for messages.
        recognise: From a folder or file to its layout; None if it is of another format.
    """

    name: str
    expected: str
    recognise: Callable[[Path], Layout | None]


def split_of(name: str) -> str | None:
    """The split that a name of a file or folder says: "instances_train2017" is "train".

    Returns:
        "train", "val", "test", "trainval", "all" or None.
    """
    words = [word for word in re.split(r"[^a-z]+", name.lower()) if word]
    known = [SPLIT_NAMES[word] for word in words if word in SPLIT_NAMES]
    return known[-1] if known else None


def split_of_path(relative: str) -> str | None:
    """The split that the folders of a path say, from the outermost."""
    splits = map(_split_of_folder, relative.split("/")[:-1])
    return next((split for split in splits if split is not None), None)


def _split_of_folder(folder: str) -> str | None:
    """The split of "train", "Train2017", "images_train" and "train-annotations"."""
    words = [word for word in re.split(r"[-_ ]+|\d+$", folder.lower()) if word]
    rest = [word for word in words if word not in ROLES] if len(words) > 1 else words
    return SPLIT_NAMES[rest[0]] if len(rest) == 1 and rest[0] in SPLITS else None


def says_something(folder: str) -> bool:
    """Whether the name of a folder says a split, or what is in it."""
    return folder.lower() in ROLES or _split_of_folder(folder) is not None


def several_data_sets(path: Path, found: Iterable[Path]) -> ValueError:
    """The error for a folder that holds more than one data set."""
    names = ", ".join(map(str, found))
    return ValueError(f"{path}: holds several data sets: {names}; give the one that is meant")


def key_of(relative: str) -> str:
    """A path without its suffix and without folders that only say what is in them.

    "images/train/a.jpg", "annotations_train/a.xml" and "train/labels/a.txt" have the same.
    """
    *folders, name = relative.split("/")
    said = [_split_of_folder(folder) or folder for folder in folders if folder.lower() not in ROLES]
    return "/".join([*said, os.path.splitext(name)[0]])


def of_split(places: Iterable[str], split: str | None) -> list[str]:
    """The paths that are not in a folder of another split."""
    return [place for place in places if split is None or split_of_path(place) in (None, split)]
