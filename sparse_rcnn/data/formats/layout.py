"""A format of data sets: it recognises its layout in a folder, and has a reader for each split.

A new format is one file with a `Format` and a line in `load.py`:

    def recognise(path: Path) -> Layout | None: ...   # looks, and reads nothing large
    def read(options: ReadOptions) -> AnnotatedImages: ...   # one for each split, in Layout.splits
    MY_FORMAT = Format("My format", "annotations.txt beside the images", recognise)
"""

import os
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple, Protocol

from sparse_rcnn.data.formats.annotated_images import AnnotatedImages, ReadOptions
from sparse_rcnn.data.formats.counted import counted

__all__ = [
    "ROLES",
    "SPLITS",
    "SPLIT_NAMES",
    "Format",
    "ImageIndex",
    "Layout",
    "Reader",
    "key_of",
    "of_split",
    "once_each",
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


class ImageIndex:
    """The images below a folder, found by the name of their annotation file.

    Args:
        directory: The folder.
        names: Image files, relative to it, by preference where several have one name.
    """

    def __init__(self, directory: Path, names: Iterable[str]) -> None:
        self.directory = directory
        self._by_key: dict[str, str] = {}
        self._by_stem: dict[str, list[str]] = {}
        self._by_name: dict[str, list[str]] = {}
        for name in names:
            base = os.path.basename(name)
            self._by_key.setdefault(key_of(name), name)
            self._by_stem.setdefault(os.path.splitext(base)[0], []).append(name)
            self._by_name.setdefault(base, []).append(name)

    def match(self, annotations: Mapping[str, str | None]) -> dict[str, str]:
        """The images of annotation files: of the same key, or named inside them.

        Only if no file has an image so, the folders do not correspond, and an image counts that is alone of
        its name. Else a missing image would be taken from another folder.

        Args:
            annotations: Paths of annotation files, relative to the same folder, and what each says that its
                image is called.

        Returns:
            The image of each annotation file that has one.
        """
        found = {}
        for file, named in annotations.items():
            beside = f"{os.path.dirname(file)}/{os.path.basename((named or '').replace(chr(92), '/'))}"
            image = self._by_key.get(key_of(file)) or self._by_key.get(key_of(beside.lstrip("/")))
            if image is not None:
                found[file] = image
        if not found:
            found = {
                file: image for file, named in annotations.items() if (image := self._alone(file, named))
            }
        return found

    def _alone(self, file: str, named: str | None) -> str | None:
        """The only image of a name, outside the folders of other splits."""
        name = os.path.basename((named or "").replace("\\", "/"))
        places = self._by_name.get(name) or self._by_stem.get(os.path.splitext(os.path.basename(file))[0], [])
        places = of_split(places, split_of_path(file))
        return places[0] if len({os.path.splitext(place)[0] for place in places}) == 1 else None


def once_each(found: Mapping[str, str], root: Path) -> tuple[dict[str, str], list[str]]:
    """Annotation files and their images, each image once, and a remark on files that are copies.

    Args:
        found: As of `ImageIndex.match`.
        root: The folder of the annotation files.

    Raises:
        ValueError: If two files of one image have different contents.
    """
    file_of: dict[str, str] = {}
    copies = []
    for file, image in found.items():
        first = file_of.setdefault(image, file)
        if first == file:
            continue
        if (root / first).read_bytes() != (root / file).read_bytes():
            raise ValueError(
                f"{root / first} and {root / file} are both of image {image}, and differ: keep one of them"
            )
        copies.append(str(root / file))
    once = {file: image for image, file in file_of.items()}
    if not copies:
        return once, []
    said = counted(len(copies), "file is a copy", "files are copies")
    return once, [f"{root}: {said} of another file of the same image: left out, such as {copies[0]}"]


def of_split(places: Iterable[str], split: str | None) -> list[str]:
    """The paths that are not in a folder of another split."""
    return [place for place in places if split is None or split_of_path(place) in (None, split)]
