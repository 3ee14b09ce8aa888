"""COCO's JSON under the names that tools give it: COCO, LVIS, Roboflow, CVAT, Label Studio, makesense."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from sparse_rcnn.data.formats.annotated_images import AnnotatedImages, ReadOptions
from sparse_rcnn.data.formats.coco_mending import Mending, merge_repeated
from sparse_rcnn.data.formats.coco_reader import SECTIONS, read_coco
from sparse_rcnn.data.formats.image_folders import folder_of, image_folders
from sparse_rcnn.data.formats.image_sizes import keep_readable, read_image_sizes
from sparse_rcnn.data.formats.json_file import ENDS, names_in
from sparse_rcnn.data.formats.json_sections import read_sections
from sparse_rcnn.data.formats.layout import Format, Layout, Reader, split_of
from sparse_rcnn.data.formats.located_images import locate_images
from sparse_rcnn.data.formats.split_files import splits_of_files

__all__ = ["COCO_FORMAT", "DATUMARO", "MARKS", "OTHER_TASKS", "recognise"]

DATUMARO = ("items", "label_id")  # names in its files, which have annotations and categories, too
MARKS = b"\xef\xbb\xbf\xff\xfe \t\r\n"  # of the encoding, and spaces
# COCO's other files about the same images.
OTHER_TASKS = ("captions_", "person_keypoints_", "stuff_", "panoptic_", "image_info_")


def recognise(path: Path) -> Layout | None:
    """A JSON with images and annotations, or a folder that holds one or more."""
    if path.is_file():
        return Layout("COCO", {"all": partial(_read, path, folder_of(path), [])}) if _is_coco(path) else None
    files = _files(path, "", "annotations/") or _files(path, "*/", "*/annotations/")
    files = [file for file in files if not file.name.startswith(OTHER_TASKS)] or files

    def reader_of(file: Path) -> Reader:
        return partial(_read, file, path, [other for other in files if other != file])

    splits = splits_of_files(files, path, reader_of)
    return Layout("COCO", splits) if splits else None


def _files(root: Path, *folders: str) -> list[Path]:
    found = [file for folder in folders for file in sorted(root.glob(folder + "*.[jJ][sS][oO][nN]"))]
    return [file for file in found if not file.name.startswith(".") and _is_coco(file)]


def _is_coco(file: Path) -> bool:
    """Whether a file is an object that has two of COCO's lists, and is not Datumaro's."""
    if len(names_in(file, SECTIONS, 2)) < 2 or len(names_in(file, DATUMARO, 0)) == len(DATUMARO):
        return False
    with open(file, "rb") as stream:
        return stream.read(ENDS).replace(b"\0", b"").lstrip(MARKS).startswith(b"{")


def _read(file: Path, root: Path, others: list[Path], options: ReadOptions) -> AnnotatedImages:
    candidates = [Path(options.images)] if options.images else image_folders(file, root)

    def locate(names: Sequence[str]) -> tuple[list[str], list[str]]:
        for base in candidates[:1] if options.images else []:
            if not base.is_dir():
                raise ValueError(f"{base}: there is no such directory of images")
        missing_ok = options.allow_missing or options.leave_out_broken
        base = candidates[0] if options.images else root
        return locate_images(names, candidates, base, file, missing_ok, split_of(file.stem))

    mending = Mending(file, options.leave_out_broken)
    content, parents = read_coco(file, locate, mending)
    content = _mended(content, mending, options)
    return _without_ghosts(content, parents, file, others)


def _mended(content: AnnotatedImages, mending: Mending, options: ReadOptions) -> AnnotatedImages:
    """Adds sizes from headers, leaves out broken images, and keeps each file and each class once."""
    problems: dict[int, str] = {}
    if mending.unsized:
        sizes, unread = read_image_sizes([content.paths[index] for index in mending.unsized], options)
        content.sizes[mending.unsized] = sizes
        problems = {mending.unsized[index]: problem for index, problem in unread.items()}
    if mending.broken:
        index_of = {id: index for index, id in enumerate(content.ids.tolist())}
        problems |= {index_of[id]: said for id, said in mending.broken.items() if id in index_of}
    content = merge_repeated(keep_readable(content, problems, options), mending)
    return content._replace(remarks=[*content.remarks, *mending.remarks()])


def _without_ghosts(
    content: AnnotatedImages, parents: list[int], file: Path, others: list[Path]
) -> AnnotatedImages:
    """Leaves out classes that are only the name of a group and that no split uses; Roboflow writes them."""
    used = {content.category_ids[label] for label in np.unique(content.objects.labels).tolist()}
    ghosts = {*parents} - used
    for other in others if ghosts else []:
        ghosts -= _categories_used(other)
    if not ghosts or len(ghosts) == len(content.category_ids):
        return content
    kept = [label for label, category in enumerate(content.category_ids) if category not in ghosts]
    position = np.full(len(content.category_ids), -1, dtype=np.int32)
    position[kept] = np.arange(len(kept), dtype=np.int32)
    names = [name for name, id in zip(content.class_names, content.category_ids, strict=True) if id in ghosts]
    return content._replace(
        class_names=[content.class_names[label] for label in kept],
        category_ids=[content.category_ids[label] for label in kept],
        objects=content.objects._replace(labels=position[content.objects.labels]),
        remarks=[
            *content.remarks,
            f"{file}: class {', '.join(names)} is only the name above the others: left out",
        ],
    )


def _categories_used(file: Path) -> set[int]:
    used: set[int] = set()

    def look(entries: list, first: int) -> None:
        # Also "7" and 7.0. The reader of that file finds what is wrong in it.
        found = {str(entry.get("category_id")) for entry in entries if isinstance(entry, dict)}
        used.update(int(text) for value in found if (text := value.removesuffix(".0")).isdecimal())

    read_sections(file, {"annotations": look})
    return used


COCO_FORMAT = Format(
    "COCO",
    "a JSON with images, annotations and categories, such as annotations/instances_train2017.json or "
    "train/_annotations.coco.json, and the images",
    recognise,
)
