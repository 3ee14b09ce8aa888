"""YOLO's label files: a text file an image, a line an object, coordinates as fractions of the image.

A line is `class cx cy w h`, or a polygon `class x1 y1 x2 y2 x3 y3 ...`, of which the box around it is taken.
An image without a label file, or with an empty one, is background.
"""

import math
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from sparse_rcnn.data.formats.annotated_images import AnnotatedImages, ReadOptions, make_objects
from sparse_rcnn.data.formats.counted import counted
from sparse_rcnn.data.formats.flat import FlatStrings
from sparse_rcnn.data.formats.image_names import listing
from sparse_rcnn.data.formats.image_sizes import keep_readable, read_image_sizes
from sparse_rcnn.data.formats.text_file import read_text

__all__ = ["FARTHEST", "IMAGE_FOLDERS", "LABEL_FOLDERS", "labels_of", "read_labels", "read_yolo"]

# Folders, in any spelling, and what stands in place of them in the paths of label files.
IMAGE_FOLDERS, LABEL_FOLDERS = ("images", "image", "imgs", "img", "jpegimages"), ("labels", "label")
FARTHEST = 2.0  # a greater number is no fraction: it is a coordinate in pixels


def read_yolo(
    images: Sequence[str],
    labels: Sequence[str | None],
    class_names: Sequence[str] | None,
    where: Path,
    options: ReadOptions,
    keypoints: bool = False,
) -> AnnotatedImages:
    """Reads the label files of images.

    Args:
        images: The image files.
        labels: The label file of each image; None where there is none.
        class_names: The names by label, "" for labels that are not to occur; None numbers them, with a
            remark.
        where: The file or folder that names the images, for messages.
        options: `leave_out_broken` leaves out images whose label file or header is broken.
        keypoints: Lines are `class cx cy w h` and key points, which are left out.

    Raises:
        ValueError: Naming file, line, field and value.
    """
    if not images:
        raise ValueError(f"{where}: the data set is empty: there are no images")
    if not any(labels):
        raise ValueError(
            f"{where}: none of {len(images)} images has a label file, such as "
            f"{os.path.splitext(os.path.basename(images[0]))[0]}.txt of {images[0]}: it is looked for beside "
            "the image, and in labels/ in place of images/"
        )
    rows: list[tuple[int, int, str, int]] = []  # image, label, file, line
    fractions: list[tuple[float, ...]] = []
    remarks: list[str] = []
    broken: dict[int, str] = {}
    for image, file in enumerate(labels):
        if file is None:
            continue
        try:
            found = read_labels(file, None if class_names is None else len(class_names), keypoints)
        except ValueError as error:
            if not options.leave_out_broken:
                raise
            broken[image] = str(error)
            continue
        for number, label, box in found:
            if class_names is not None and not class_names[label]:
                raise ValueError(f"{file}: line {number}: class {label} has no name in {where}")
            rows.append((image, label, file, number))
            fractions.append(box)
    if class_names is None:
        count = 1 + max((label for _, label, _, _ in rows), default=0)
        class_names = [str(label) for label in range(count)]
        remarks.append(f"{where}: no file names the classes; they are called {_short(class_names)}")
    paths = FlatStrings(images)
    sizes, problems = read_image_sizes(paths, options)
    owners = np.array([row[0] for row in rows], dtype=np.int64)
    boxes = np.array(fractions, dtype=np.float64).reshape(-1, 4)  # cxcywh
    boxes[:, :2] -= boxes[:, 2:] / 2
    boxes *= sizes[owners][:, [1, 0, 1, 0]]

    def describe(index: int) -> str:
        _, label, file, number = rows[index]
        return f"{file}: line {number} (class {label}): cx cy w h {fractions[index]}"

    first_of: dict[str, int] = {}
    for label, name in enumerate(class_names):
        if name and first_of.setdefault(name, label) != label:
            remarks.append(
                f"{where}: labels {first_of[name]} and {label} have the same name: they are one class, {name}"
            )
    position = {name: place for place, name in enumerate(first_of)}
    if unnamed := sum(not name for name in class_names):
        said = counted(unnamed, "label between others has", "labels between others have")
        remarks.append(f"{where}: {said} no name")
    content = AnnotatedImages(
        paths,
        np.arange(1, len(images) + 1),
        sizes,
        list(first_of),
        list(first_of.values()),
        make_objects(
            owners.tolist(), [position[class_names[row[1]]] for row in rows], boxes, [False] * len(rows)
        ),
        describe,
        remarks,
    )
    return keep_readable(content, {**problems, **broken}, options)


def read_labels(
    file: str | Path, num_classes: int | None, keypoints: bool = False
) -> list[tuple[int, int, tuple[float, float, float, float]]]:
    """Reads a label file.

    Args:
        file: The file.
        num_classes: K, if known.
        keypoints: As of `read_yolo`.

    Returns:
        For each object the number of its line, its label and (cx, cy, w, h) as fractions.

    Raises:
        ValueError: Naming file, line, field and value.
    """
    found = []
    for number, line in enumerate(read_text(file, " as a label file").split("\n"), start=1):
        if words := line.split():
            label, values = _numbers(words, f"{file}: line {number}", num_classes)
            found.append((number, label, _box(values, keypoints, f"{file}: line {number}")))
    return found


def _numbers(words: list[str], where: str, num_classes: int | None) -> tuple[int, list[float]]:
    try:
        numbers = [float(word) for word in words]
    except ValueError as error:
        wrong = next(word for word in words if not _is_number(word))
        raise ValueError(f"{where}: must be numbers with spaces between, got {wrong!r:.80}") from error
    label = numbers[0]
    if not (0 <= label < 2**31 and label == int(label)) or (num_classes and label >= num_classes):
        most = " on"
        if num_classes:
            known = counted(num_classes, "class is", "classes are")
            most = f" to {num_classes - 1} ({known} known)"
        raise ValueError(f"{where}: field 'class' must be an integer from 0{most}, got {words[0]!r:.80}")
    for position, number in enumerate(numbers[1:], start=2):
        if not math.isfinite(number):
            raise ValueError(f"{where}: number {position} must be finite, got {words[position - 1]!r:.80}")
    return int(label), numbers[1:]


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _box(values: list[float], keypoints: bool, where: str) -> tuple[float, float, float, float]:
    if keypoints and len(values) > 4:
        values = values[:4]
    elif len(values) != 4 and (len(values) < 6 or len(values) % 2):
        what = f"class and {len(values)} numbers"
        if len(values) == 5:
            what += " (a fifth is a score: these are detections, not labels)"
        raise ValueError(f"{where}: must be 'class cx cy w h', or a polygon of at least 3 points, got {what}")
    if len(values) > 6 and {*values[6::3]} <= {0, 1, 2} and 2 in values[6::3]:
        what = "a box and key points 'x y visible'? kpt_shape in data.yaml says so"
        raise ValueError(f"{where}: no polygon has a coordinate of 2 in every third place: are these {what}")
    if (worst := max(values, key=abs)) and abs(worst) > FARTHEST:
        raise ValueError(
            f"{where}: coordinates must be fractions of the image, 0 to 1, got {worst:g}: are these pixels?"
        )
    if len(values) == 4:
        cx, cy, width, height = values
        return cx, cy, width, height
    xs, ys = values[::2], values[1::2]
    left, right, top, bottom = min(xs), max(xs), min(ys), max(ys)
    return (left + right) / 2, (top + bottom) / 2, right - left, bottom - top


def labels_of(images: Sequence[str]) -> list[str | None]:
    """The label file of each image: in labels/ in place of images/, or beside it; None if there is none."""
    known: dict[str, dict[str, str]] = {}
    found = []
    for image in images:
        folder, name = os.path.split(image)
        if folder not in known:
            known[folder] = _label_files(folder)
        found.append(known[folder].get(os.path.splitext(name)[0]))
    return found


def _label_files(folder: str) -> dict[str, str]:
    """The label files of the images in a folder, by the name of the image without its suffix."""
    parts = folder.replace(os.sep, "/").split("/")
    places = [folder]
    for position, part in enumerate(parts):
        if part.lower() in IMAGE_FOLDERS:
            before = "/".join(parts[:position]) + "/" if position else ""
            names = [name for name in sorted(listing(before or ".")) if name.lower() in LABEL_FOLDERS]
            places += ["/".join([before + name, *parts[position + 1 :]]) for name in names]
    files: dict[str, str] = {}
    for place in places:  # what is written last counts: labels/ in place of the innermost folder of images
        there = sorted(name for name in listing(place or ".") if name[-4:].lower() == ".txt")
        files |= {name[:-4]: os.path.join(place, name) for name in there}
    return files


def _short(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
