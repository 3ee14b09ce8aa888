"""Images in the places that YOLO's data.yaml or .data names: folders, lists and single images."""

import os
from collections.abc import Sequence
from pathlib import Path

from sparse_rcnn.data.formats.annotated_images import AnnotatedImages, ReadOptions
from sparse_rcnn.data.formats.counted import counted
from sparse_rcnn.data.formats.image_names import Folders, images_below, is_image, listing, missing_message
from sparse_rcnn.data.formats.text_file import lines_of
from sparse_rcnn.data.formats.yolo import labels_of, read_yolo
from sparse_rcnn.data.formats.yolo_files import is_label_file, is_name_file

__all__ = ["read_listed"]


def read_listed(
    places: Sequence[str],
    root: Path,
    names: list[str] | None,
    file: Path,
    keypoints: bool,
    options: ReadOptions,
) -> AnnotatedImages:
    """The images of folders and lists, and their label files by YOLO's rule."""
    if options.images:
        root, places = Path(options.images), [_inside(place, options.images) for place in places]
    images: list[str] = []
    for place in places:
        if os.path.isdir(place):
            images += [os.path.join(place, name) for name in images_below(place)]
        elif is_image(place):
            images.append(place)
        else:
            images += _listed(Path(place), root)
    images = list(dict.fromkeys(images))
    folders = Folders()
    missing = [image for image in images if not folders.has(image)]
    remarks = []
    if missing:
        if not (options.allow_missing or options.leave_out_broken):
            raise ValueError(missing_message(missing, len(images), "in the folders that it names", file))
        remarks.append(missing_message(missing, len(images), "in the folders that it names: left out", file))
        images = [image for image in images if folders.has(image)]
    labels = labels_of(images)
    content = read_yolo(images, labels, names, file, options, keypoints)
    if all(map(os.path.isdir, places)) and (lost := _without_image(labels)):  # a list may name a part
        said = counted(len(lost), "label file has", "label files have")
        remarks.append(f"{file}: {said} no image that can be read, such as {lost[0]}")
    return content._replace(remarks=[*remarks, *content.remarks])


def _without_image(labels: Sequence[str | None]) -> list[str]:
    """The other files with labels in the folders of label files."""
    known = {file for file in labels if file is not None}
    found = [
        os.path.join(folder, name)
        for folder in sorted({os.path.dirname(file) for file in known})
        for name in sorted(listing(folder))
        if name.lower().endswith(".txt")
    ]
    return [
        file
        for file in found
        if file not in known and not is_name_file(Path(file)) and is_label_file(Path(file))
    ]


def _inside(place: str, images: str) -> str:
    """The folder of images that was given, in place of one that a file names."""
    return place if os.path.isfile(place) else images


def _listed(file: Path, root: Path) -> list[str]:
    """The images of a list: relative to the list, to the data set, or with folders of another machine."""
    folders = Folders()
    found = []
    bases = list(dict.fromkeys([root, file.parent]))
    for line in lines_of(file, " as a list of images"):
        parts = [part for part in line.replace("\\", "/").split("/") if part not in ("", ".", "..")]
        places = [*(str(base / line) for base in bases[::-1]), line]
        places += [str(base.joinpath(*parts[first:])) for first in range(len(parts)) for base in bases]
        found.append(
            os.path.normpath(next((place for place in places if folders.has(place)), str(root / line)))
        )
    return found
