"""The reader that simple formats share. Such formats list objects image by image.

A format gives a function from a file to its entries. Classes are the sorted names in all files of the data
set, so that all splits have the same.
"""

import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from sparse_rcnn.data.formats.annotated_images import AnnotatedImages, ReadOptions, make_objects
from sparse_rcnn.data.formats.class_choice import in_order
from sparse_rcnn.data.formats.counted import counted
from sparse_rcnn.data.formats.data_folders import files_below
from sparse_rcnn.data.formats.flat import FlatStrings
from sparse_rcnn.data.formats.image_folders import image_folders, split_of_file
from sparse_rcnn.data.formats.image_index import ImageIndex, once_each
from sparse_rcnn.data.formats.image_names import images_below, missing_message, suffix_order
from sparse_rcnn.data.formats.image_sizes import keep_readable, sizes_or_headers
from sparse_rcnn.data.formats.layout import Layout, split_of_path
from sparse_rcnn.data.formats.located_images import locate_images

__all__ = ["Entry", "Parse", "Shape", "layout_of_entries"]


class Shape(NamedTuple):
    """One object: its class, xywh in pixels or as fractions, "file: entry" for messages; if it is ignored."""

    name: str
    box: tuple[float, float, float, float]
    where: str
    fractions: bool = False
    is_crowd: bool = False


class Entry(NamedTuple):
    """An image: its name in the file, its objects, and (height, width) in pixels if the file says it."""

    image: str
    shapes: list[Shape]
    size: tuple[int, int] | None = None


Parse = Callable[[Path], list[Entry]]


def layout_of_entries(
    path: Path,
    name: str,
    suffix: str | tuple[str, ...],
    is_of_format: Callable[[Path], bool],
    parse: Parse,
    one_an_image: bool = False,
) -> Layout | None:
    """The layout of a file, or of a folder that holds files of a format.

    Args:
        path: The file or folder.
        name: Of the format.
        suffix: Of its files, one or several.
        is_of_format: Whether a file is of the format; it looks at the beginning only.
        parse: From a file to its entries; raises ValueError that names file, entry, field and value.
        one_an_image: Whether each image has a file of its own. Only the folders then say the split.
    """
    root = path if path.is_dir() else path.parent
    files = [root / file for file in files_below(root, suffix)] if path.is_dir() else [path]
    files = [file for file in files if file.name.lower().endswith(suffix) and is_of_format(file)]
    groups: dict[str, list[Path]] = {}
    for file in files:
        folders = split_of_path(file.relative_to(root).as_posix()) or "all"
        split = "all" if path.is_file() else folders if one_an_image else split_of_file(file, root)
        groups.setdefault(split, []).append(file)
    read = partial(_read, parse, files, root, one_an_image)
    return Layout(name, {split: partial(read, some) for split, some in groups.items()}) if files else None


def _read(
    parse: Parse,
    files: Sequence[Path],
    root: Path,
    one_an_image: bool,
    chosen: Sequence[Path],
    options: ReadOptions,
) -> AnnotatedImages:
    parsed: dict[Path, list[Entry]] = {}
    remarks: list[str] = []
    for file in files:
        try:
            parsed[file] = parse(file)
        except ValueError as error:
            if not options.leave_out_broken:
                raise
            remarks.append(f"{error}: left out")
    names = in_order({shape.name for some in parsed.values() for entry in some for shape in entry.shapes})
    if not names:
        raise ValueError(f"{root}: the data set is empty: no file names an object")
    there = [file for file in chosen if file in parsed]
    locate = _beside if one_an_image else _named
    entries, paths, said = locate({file: parsed[file] for file in there}, root, options)
    if not entries:
        raise ValueError(f"{root}: the data set is empty: there are no images")
    sizes, problems = sizes_or_headers([entry.size for entry in entries], paths, options)
    rows = [(image, shape) for image, entry in enumerate(entries) for shape in entry.shapes]
    boxes = np.array([shape.box for _, shape in rows], dtype=np.float64).reshape(-1, 4)
    scaled = np.array([shape.fractions for _, shape in rows], dtype=bool)
    owners = np.array([image for image, _ in rows], dtype=np.int64)
    boxes[scaled] *= sizes[owners[scaled]][:, [1, 0, 1, 0]]
    label_of = {name: label for label, name in enumerate(names)}
    objects = make_objects(
        owners.tolist(),
        [label_of[shape.name] for _, shape in rows],
        boxes,
        [shape.is_crowd for _, shape in rows],
    )
    content = AnnotatedImages(
        FlatStrings(paths),
        np.arange(1, len(entries) + 1),
        sizes,
        names,
        list(range(1, len(names) + 1)),
        objects,
        lambda index: f"{rows[index][1].where} ({rows[index][1].name:.80}): xywh {rows[index][1].box}",
        [*remarks, *said, *_unnamed(parsed, Path(options.images or root))],
    )
    return keep_readable(content, problems, options)


def _named(
    parsed: dict[Path, list[Entry]], root: Path, options: ReadOptions
) -> tuple[list[Entry], list[str], list[str]]:
    """The images that files name, each once with each of its objects once, and remarks."""
    images: dict[str, Entry] = {}  # by path
    repeats: list[Shape] = []
    remarks: list[str] = []
    missing_ok = options.allow_missing or options.leave_out_broken
    for file, some in parsed.items():
        joined: dict[str, Entry] = {}
        for entry in some:
            first = joined.setdefault(entry.image, entry._replace(shapes=[]))
            first.shapes.extend(entry.shapes)
        base = Path(options.images) if options.images else root
        folders = [base] if options.images else image_folders(file, root)
        split = split_of_file(file, root)
        found, said = locate_images(
            list(joined), folders, base, file, missing_ok, None if split == "all" else split
        )
        for path, entry in zip(found, joined.values(), strict=True):
            repeats += _join(images, path, entry)
        remarks += said
    if repeats:
        copies = counted(len(repeats), "box is a copy", "boxes are copies")
        example = f"{repeats[0].where} ({repeats[0].name:.80})"
        remarks.append(f"{root}: {copies} of another of its class and image: left out, such as {example}")
    return list(images.values()), list(images), remarks


def _join(images: dict[str, Entry], path: str, entry: Entry) -> list[Shape]:
    """Adds what one file says of an image to what others say; returns the objects that were there already."""
    first = images.setdefault(path, entry._replace(shapes=[]))
    if first.size is None and entry.size is not None:
        images[path] = first._replace(size=entry.size)
    known = {(shape.name, shape.box, shape.fractions, shape.is_crowd) for shape in first.shapes}
    repeats: list[Shape] = []
    for shape in entry.shapes:
        content = (shape.name, shape.box, shape.fractions, shape.is_crowd)
        (repeats if content in known else first.shapes).append(shape)
        known.add(content)
    return repeats


def _beside(
    parsed: dict[Path, list[Entry]], root: Path, options: ReadOptions
) -> tuple[list[Entry], list[str], list[str]]:
    """The images of files that have one each, and remarks."""
    images = Path(options.images) if options.images else root
    index = ImageIndex(images, sorted(images_below(images), key=suffix_order))
    relative = {file.relative_to(root).as_posix(): some[0] for file, some in parsed.items()}
    found = index.match({name: entry.image for name, entry in relative.items()})
    missing = [name for name in relative if name not in found]
    message = missing_message(missing, len(relative), f"in {images}: no image of the files", root)
    if missing and not (options.allow_missing or options.leave_out_broken):
        raise ValueError(message)
    found, remarks = once_each(found, root)
    paths = [str(images / image) for image in found.values()]
    return (
        [relative[name] for name in found],
        paths,
        [*remarks, *([f"{message}: left out"] if missing else [])],
    )


def _unnamed(parsed: dict[Path, list[Entry]], images: Path) -> list[str]:
    """A remark on images that no file names. It is not known whether they have objects."""
    named = {
        stem
        for some in parsed.values()
        for entry in some
        for name in [os.path.basename(entry.image.replace("\\", "/"))]
        for stem in (name, os.path.splitext(name)[0])
    }
    alone = [name for name in images_below(images) if Path(name).stem not in named]
    if not alone:
        return []
    said = counted(len(alone), "image is", "images are")
    return [f"{images}: {said} in no file and left out, such as {alone[0]}"]
