"""Folders with VOC's XML files: VOC itself, Roboflow, makesense, Kaggle's single folders."""

import os
import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from sparse_rcnn.data.formats.annotated_images import AnnotatedImages, ReadOptions
from sparse_rcnn.data.formats.counted import counted
from sparse_rcnn.data.formats.data_folders import files_below
from sparse_rcnn.data.formats.image_index import ImageIndex, once_each
from sparse_rcnn.data.formats.image_names import first_names, images_below, missing_message, suffix_order
from sparse_rcnn.data.formats.layout import (
    Format,
    Layout,
    Reader,
    key_of,
    several_data_sets,
    split_of,
    split_of_path,
)
from sparse_rcnn.data.formats.text_file import decoded, lines_of, read_text
from sparse_rcnn.data.formats.voc import read_list
from sparse_rcnn.data.formats.voc_images import voc_images
from sparse_rcnn.data.formats.voc_page import VocPage, read_page

__all__ = ["LABEL_MAP", "LABEL_MAP_HEAD", "LISTS", "LOOKED_AT", "VOC_FORMAT", "recognise"]

LISTS = ("ImageSets/Main", "ImageSets", "imagesets/main", "Main", "")
LABEL_MAP, LABEL_MAP_HEAD = "labelmap.txt", "# label:color_rgb"  # of CVAT and Datumaro
LOOKED_AT = 8  # XML files that are looked into to recognise the format


def recognise(path: Path) -> Layout | None:
    """A folder with VOC's XML files anywhere below, or one of its lists of images."""
    if path.is_file():
        return _recognise_list(path)
    files = files_below(path, ".xml")
    if not any(_is_page(path / file) for file in files[:LOOKED_AT]):
        return None
    lists = _lists(path, {key_of(file) for file in files})
    homes = sorted({home.parent for home in (*path.glob("*/ImageSets"), *path.glob("*/*/ImageSets"))})
    if homes and not lists:  # VOCdevkit/VOC2012
        if len(homes) > 1:
            raise several_data_sets(path, homes)
        return recognise(homes[0])
    splits: dict[str, Reader]
    if lists:
        splits = {split: partial(_read_listed, path, files, some) for split, some in lists.items()}
    else:
        groups: dict[str, list[str]] = {}
        for file in files:
            groups.setdefault(split_of_path(file) or "all", []).append(file)
        splits = {split: partial(_read, path, files, some) for split, some in groups.items()}
    return Layout("Pascal VOC", splits)


def _recognise_list(path: Path) -> Layout | None:
    if path.suffix.lower() != ".txt":
        return None
    # The folder of ImageSets/Main/train.txt, ImageSets/train.txt or train.txt, also seen from inside.
    root = Path(os.path.abspath(path)).parent
    root = root.parent if root.name == "Main" else root
    root = root.parent if root.name == "ImageSets" else root
    layout = recognise(root)
    name = "trainval" if path.stem == "trainval" else split_of(path.stem) or path.stem
    if layout is None or name not in layout.splits:
        return None
    return Layout(layout.format, {"all": layout.splits[name]})


def _is_page(file: Path) -> bool:
    try:
        with open(file, "rb") as stream:
            head = decoded(stream.read(1 << 16), "replace")
        return "<annotation>" in head or "<annotation " in head
    except OSError:
        return False


def _lists(root: Path, keys: set[str]) -> dict[str, list[Path]]:
    """The lists of images by split: text files whose first line names an annotation file.

    Where there are only lists by class, such as cat_train.txt, those of one split belong together.
    """
    for folder in LISTS:
        found: dict[str, list[Path]] = {}
        by_class: dict[str, list[Path]] = {}
        for file in sorted((root / folder).glob("*.txt")):
            try:
                first = next(iter(lines_of(file)), "")
            except ValueError:
                continue
            standard = split_of(file.stem) if re.fullmatch(r"[A-Za-z]+", file.stem) else None
            word = file.stem.rpartition("_")[2]
            if standard or any(key_of(name) in keys for name in (first, first + ".x")):
                found[file.stem] = [file]
            elif re.search(r"\s-?[01]$", first) and split_of(word) and key_of(_names_in(first)[-2]) in keys:
                by_class.setdefault(split_of(word) or word, []).append(file)
        if found:
            return _by_split(found)
        if by_class:
            return by_class
    return {}


def _by_split(lists: dict[str, list[Path]]) -> dict[str, list[Path]]:
    """Lists under the names of their splits: "valid" is "val", unless there is another list of that split."""
    splits = {name: split_of(name) if re.fullmatch(r"[A-Za-z]+", name) else None for name in lists}
    alone = [split for split in splits.values() if [*splits.values()].count(split) == 1]
    return {(split if split in alone else None) or name: lists[name] for name, split in splits.items()}


def _names_in(line: str) -> list[str]:
    """The names that a line of a list may mean: the whole line, or the first word of "name 1", "path,path".

    With or without a suffix, which a name with a dot in it does not tell.
    """
    words = [os.path.normpath(word) for word in (line, *line.replace(",", " ").split()[:1])]
    return [name for word in words for name in (word + ".xml", word, os.path.basename(word))]


def _read_listed(
    root: Path, files: list[str], lists: Sequence[Path], options: ReadOptions
) -> AnnotatedImages:
    by_key = {key_of(file): file for file in files}
    chosen, missing, remarks = [], [], []
    names, listed = lists[0], read_list(lists[0])
    if len(lists) > 1:
        listed = list(dict.fromkeys(line.split()[0] for file in lists for line in read_list(file)))
        kind = names.stem.rpartition("_")[2]
        remarks.append(
            f"{names.parent}: there is no {kind}.txt: the split is the {len(listed)} images that "
            f"{len(lists)} lists of classes name, such as {names.name}"
        )
    for name in listed:
        file = next((by_key[key] for key in map(key_of, _names_in(name)) if key in by_key), None)
        chosen.append(file) if file else missing.append(name)
    if missing and not options.leave_out_broken:
        raise ValueError(
            f"{names}: there is no XML file for {len(missing)} of {len(missing) + len(chosen)} images: "
            f"{first_names(missing)} (leave_out_broken=True, --leave-out-broken, "
            "leaves them out)"
        )
    content = _read(root, files, chosen, options)
    if missing:
        remarks.append(f"{names}: {counted(len(missing), 'image has', 'images have')} no XML file: left out")
    return content._replace(remarks=[*content.remarks, *remarks])


def _read(root: Path, files: list[str], chosen: list[str], options: ReadOptions) -> AnnotatedImages:
    """Reads all pages, because all decide the classes and the counting; returns the chosen ones."""
    pages: dict[Path, VocPage] = {}
    remarks: list[str] = []
    label_map = root / LABEL_MAP
    if options.count_from is None and label_map.is_file() and LABEL_MAP_HEAD in read_text(label_map):
        options = options._replace(count_from=0)
        remarks.append(
            f"{label_map} is CVAT's or Datumaro's, which count from 0: so are the coordinates read "
            "(count_from=1, --voc-count-from 1, says otherwise)"
        )
    for file in files:
        try:
            pages[root / file] = read_page(root / file)
        except ValueError as error:
            if not options.leave_out_broken:
                raise
            if file in chosen:
                remarks.append(f"{error}: left out")
    images = Path(options.images) if options.images else root
    names = images_below(images)
    index = ImageIndex(images, sorted(names, key=suffix_order))
    found = index.match({file: pages[root / file].image_name for file in files if root / file in pages})
    pairs: list[tuple[Path, str]] = []
    missing: list[str] = []
    once, said = once_each({file: found[file] for file in chosen if file in found}, root)
    remarks += said
    for file in chosen:
        if root / file not in pages or (file in found and file not in once):
            continue
        name = found.get(file)
        if name is None:
            missing.append(file)
        if name is not None or (options.allow_missing and not options.leave_out_broken):
            pairs.append((root / file, str(images / (name or os.path.splitext(file)[0] + ".jpg"))))
    if missing and not (options.allow_missing or options.leave_out_broken):
        raise ValueError(
            missing_message(missing, len(chosen), f"in {images}: no image of the XML files", root)
        )
    if missing and options.leave_out_broken:
        remarks.append(missing_message(missing, len(chosen), f"in {images} and are left out", root))
    if not pairs:
        raise ValueError(f"{root}: the data set is empty: no image has an XML file that can be read")
    content = voc_images([file for file, _ in pairs], [name for _, name in pairs], pages, root, options)
    remarks += _unannotated(names, {key_of(file) for file in files}, len(pairs), root)
    return content._replace(remarks=[*remarks, *content.remarks])


def _unannotated(names: list[str], keys: set[str], used: int, root: Path) -> list[str]:
    """A remark on images without an XML file; nobody said that nothing is in them."""
    alone = [name for name in names if key_of(name) not in keys]
    if not alone or len(names) - len(alone) < used // 2:  # else images are found by other names
        return []
    said = counted(len(alone), "image has", "images have")
    return [f"{root}: {said} no XML file, such as {alone[0]}: left out"]


VOC_FORMAT = Format(
    "Pascal VOC",
    "an XML file for each image (in Annotations/, annotations/ or beside the images), with or without "
    "lists in ImageSets/Main/",
    recognise,
)
