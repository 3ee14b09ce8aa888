"""The file that describes a YOLO data set: Ultralytics' data.yaml, Darknet's .data, and lists of names."""

import os
from pathlib import Path
from typing import Any, NamedTuple

from sparse_rcnn.data.formats.coco_fields import is_name
from sparse_rcnn.data.formats.layout import SPLIT_NAMES
from sparse_rcnn.data.formats.text_file import lines_of, read_text

__all__ = ["SPLITS", "UNNAMED", "DataFile", "read_data_file", "read_data_yaml", "read_names"]

UNNAMED = ""  # a label that a map of names leaves out
SPLITS = {name: split for name, split in SPLIT_NAMES.items() if split in ("train", "val", "test")}


class DataFile(NamedTuple):
    """What such a file says.

    Attributes:
        file: The file.
        root: The folder that images are looked for in.
        class_names: The names by label, "" for labels that a map leaves out; None if it has none.
        splits: For each split, folders, lists or image files.
        keypoints: Whether lines hold key points behind the box.
        remarks: Splits that the file names and that are not there.
        num_classes: K, if the file says it.
    """

    file: Path
    root: Path
    class_names: list[str] | None
    splits: dict[str, list[str]]
    keypoints: bool = False
    remarks: tuple[str, ...] = ()
    num_classes: int | None = None


def read_data_yaml(file: Path) -> DataFile:
    """Reads a data.yaml.

    Raises:
        ValueError: Naming the file, the field and the value.
        ImportError: If PyYAML is not there.
    """
    content = _parse_yaml(file)
    if not isinstance(content, dict):
        raise ValueError(f"{file}: must hold fields such as train, val and names, got {_shown(content)}")
    root = _root(file, content.get("path"))
    splits: dict[str, list[str]] = {}
    remarks = []
    for field, split in SPLITS.items():
        value = content.get(field)
        if value in (None, "", "null", "~", []):
            continue
        values = value if isinstance(value, list) else [value]
        if not all(isinstance(part, str) and part for part in values):
            raise ValueError(
                f"{file}: field {field!r} must be a path or a list of paths, got {_shown(value)}"
            )
        places = [_place(part, root, file.parent) for part in values]
        if any(place is None for place in places):
            gone = f"{file}: field {field!r}: there is no {values[places.index(None)]!r} in {root}"
            if split == "train":
                raise ValueError(gone)
            remarks.append(gone)  # Roboflow names all three in any export
            continue
        splits[field if split in splits else split] = [str(place) for place in places]
    if not splits:
        raise ValueError(f"{file}: has none of the fields train, val and test, got {_shown(list(content))}")
    count = None if content.get("nc") in (None, "") else _count(content["nc"], file)
    names = _names(content.get("names"), count, file)
    return DataFile(file, root, names, splits, "kpt_shape" in content, tuple(remarks), count)


def read_data_file(file: Path) -> DataFile | None:
    """Reads Darknet's .data, of lines "key = value"; None if it has no such lines.

    Raises:
        ValueError: Naming the file, the field and the value.
    """
    lines = lines_of(file)
    content = {
        key.strip(): value.strip() for line in lines if "=" in line for key, value in [line.split("=", 1)]
    }
    splits = {}
    for field, split in SPLITS.items():
        if content.get(field):
            place = _place(content[field], file.parent, file.parent)
            if place is None:
                if split == "train":
                    raise ValueError(
                        f"{file}: field {field!r}: there is no {content[field]!r} in {file.parent}"
                    )
                continue  # CVAT names a list for validation that it does not write
            splits[field if split in splits else split] = [str(place)]
    if not splits:
        return None
    names = None
    if content.get("names"):
        place = _place(content["names"], file.parent, file.parent)
        if place is None:
            raise ValueError(f"{file}: field 'names': there is no {content['names']!r} in {file.parent}")
        names = read_names(place)
    return DataFile(file, file.parent, names, splits)


def read_names(file: Path) -> list[str]:
    """Class names, one a line; ValueError if there are none."""
    names = [line.strip() for line in read_text(file, " as a list of class names").split("\n")]
    while names and not names[-1]:
        names.pop()
    if not names or not all(names):
        line = names.index("") + 1 if names else 1
        raise ValueError(f"{file}: line {line}: a class name is expected, got an empty line")
    return names


def _parse_yaml(file: Path) -> Any:
    try:
        import yaml
    except ImportError as error:
        raise ImportError(f"{file}: reading it needs PyYAML: pip install pyyaml") from error
    text = read_text(file)
    try:
        # All values stay text: a class may be called "no" or "1e3".
        return yaml.load(text, Loader=yaml.BaseLoader)
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        raise ValueError(f"{file}: is not valid YAML: {' '.join(str(error).split())}") from error


def _root(file: Path, value: Any) -> Path:
    """The folder `path`, absolute or relative to the file. If there is none, it is the folder of the file."""
    if value in (None, "", "null", "~"):
        return file.parent
    if not isinstance(value, str):
        raise ValueError(f"{file}: field 'path' must be a path, got {_shown(value)}")
    for place in (file.parent / value, Path(value)):
        if _is_there(place, os.path.isdir):
            return place
    return file.parent


def _place(value: str, root: Path, folder: Path) -> Path | None:
    """Where a folder or list is. Folders of another machine and Roboflow's "../" are ignored if need be."""
    value = value.replace("\\", "/")
    parts = [part for part in value.split("/") if part not in ("", ".", "..")]
    bases = list(dict.fromkeys([root, folder]))
    inside = (
        [folder.joinpath(*parts)] if value.startswith("../") else []
    )  # before another set beside this one
    places = [*inside, *(base / value for base in bases)]
    places += [base.joinpath(*parts[first:]) for first in range(len(parts)) for base in bases]
    return next((place for place in places if _is_there(place, os.path.exists)), None)


def _is_there(place: Path, test: Any) -> bool:
    try:
        return bool(test(place))
    except ValueError:  # a NUL character
        return False


def _names(names: Any, count: int | None, file: Path) -> list[str] | None:
    given = names
    if names in (None, "", "null", "~"):
        return None
    if isinstance(names, str) and os.path.isfile(file.parent / names):
        names = read_names(file.parent / names)
    if isinstance(names, dict):
        try:
            by_label = {int(label): name for label, name in names.items()}
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"{file}: field 'names': labels must be integers, got {_shown(names)}"
            ) from error
        if len(by_label) != len(names) or min(by_label, default=0) < 0 or max(by_label, default=0) >= 2**20:
            raise ValueError(
                f"{file}: field 'names': labels must be integers from 0, each once, got {_shown(names)}"
            )
        if not all(map(is_name, names.values())):
            raise ValueError(f"{file}: field 'names' must be a map of names, got {_shown(names)}")
        names = [by_label.get(label, UNNAMED) for label in range(max(by_label, default=-1) + 1)]
        count = None if count == len(by_label) else count  # of the names, or of all labels
    elif not isinstance(names, list) or not all(map(is_name, names)):
        names = []
    if not names:
        expected = "a list of names, a map such as {0: cat}, or a text file of names"
        raise ValueError(f"{file}: field 'names' must be {expected}, got {_shown(given)}")
    if count not in (None, len(names)):
        there = sum(name != UNNAMED for name in names)
        raise ValueError(f"{file}: field 'nc' says {count} classes, but 'names' has {there}")
    return [name.strip() for name in names]


def _count(value: Any, file: Path) -> int:
    if not isinstance(value, str) or not value.isdecimal() or not 0 < int(value) < 2**20:
        raise ValueError(f"{file}: field 'nc' must be the number of classes, got {_shown(value)}")
    return int(value)


def _shown(value: Any) -> str:
    return repr(value)[:80] if value is not None else "nothing"
