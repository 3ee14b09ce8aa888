"""Oddities of COCO files that leave no doubt. They are read, and each kind causes one remark.

Ids as text or as floats, absent or repeated ids of annotations, absent sizes of images, boxes as text, and
boxes that only the segmentation tells. `CocoDetection` refuses all of them; `load_dataset` reads them.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from sparse_rcnn.data.formats.annotated_images import AnnotatedImages
from sparse_rcnn.data.formats.coco_fields import is_box, is_id, is_length, is_number
from sparse_rcnn.data.formats.coco_segmentation import box_around

__all__ = ["FIRST_OF_NAMES", "UNSAID", "Mending", "merge_repeated"]

FIRST_OF_NAMES = 10**9  # ids of images whose own ids are no numbers begin here
_NUMBER = re.compile(r"0|-?[1-9][0-9]{0,17}")  # "007" is a name
UNSAID = (None, "", 0, "0")


class Mending:
    """What was mended in one file.

    Args:
        file: For remarks.
        leave_out_broken: Leave out images that have an annotation that cannot be read.
    """

    def __init__(self, file: Path, leave_out_broken: bool = False) -> None:
        self.file = file
        self.leave_out_broken = leave_out_broken
        self.unsized: list[int] = []  # numbers of images without a size
        self.repeated = False  # whether two images have one name
        self.broken: dict[int, str] = {}  # image ids, and what is wrong
        self._counts: dict[str, list[Any]] = {}
        self._ids: dict[str, int] = {}

    def note(self, kind: str, example: Any, count: int = 1) -> None:
        """Counts an oddity for `remarks`."""
        self._counts.setdefault(kind, [0, example])[0] += count

    def remarks(self) -> list[str]:
        """One sentence for each kind of oddity."""
        return [
            f"{self.file}: {kind} ({count}, such as {example!r:.80})"
            for kind, (count, example) in self._counts.items()
        ]

    def images(self, entries: list[Any], first: int) -> list[Any]:
        """Entries of "images". Ids and sizes are converted to integers if there is no doubt."""
        return [self._image(entry, number) for number, entry in enumerate(entries, start=first)]

    def annotations(
        self, entries: list[Any], first: int, check: Callable[[list[Any], int], Any]
    ) -> list[Any]:
        """Entries of "annotations", mended. If broken ones are left out, `check` decides which."""
        mended = [self._annotation(entry, number) for number, entry in enumerate(entries, start=first)]
        if not self.leave_out_broken:
            return mended
        kept = []
        for number, entry in enumerate(mended, start=first):
            try:
                check([entry], number)
            except ValueError as error:
                image = entry.get("image_id") if isinstance(entry, dict) else None
                if isinstance(image, int) and is_id(image):
                    self.broken.setdefault(image, str(error))
                else:
                    self.note("annotations of no image that is known are left out", str(error))
            else:
                kept.append(entry)
        return kept

    def categories(self, entries: list[Any]) -> list[Any]:
        """Entries of "categories", mended. Repeated ones are left out."""
        kept: list[Any] = []
        for entry in entries:
            if isinstance(entry, dict):
                name = entry.get("name")
                stripped = {"name": name.strip()} if isinstance(name, str) else {}
                entry = {**entry, **self._integers(entry, ("id",)), **stripped}
                same = [
                    one
                    for one in kept
                    if isinstance(one, dict) and one.get("id") == entry.get("id") is not None
                ]
                if same and same[0].get("name") == entry.get("name"):
                    self.note("a category is there twice", entry["name"])
                    continue
            kept.append(entry)
        return kept

    def numbered(self, ids: np.ndarray) -> np.ndarray:
        """Ids of annotations. If one occurs twice, all get new numbers."""
        ordered = ids if np.greater(np.diff(ids), 0).all() else np.sort(ids)
        again = ordered[1:][ordered[1:] == ordered[:-1]]
        if not len(again):
            return ids
        self.note("annotations have the same id: all are numbered anew", int(again[0]), len(again))
        return np.arange(1, len(ids) + 1)

    def written(self, id: int) -> Any:
        """The id of an image as the file has it."""
        return next((text for text, number in self._ids.items() if number == id), id)

    def _image(self, entry: Any, number: int) -> Any:
        if not isinstance(entry, dict):
            return entry
        mended = {**entry, **self._integers(entry, ("id", "height", "width"))}
        if type(mended.get("id")) is str and mended["id"]:
            self.note("ids of images are text", mended["id"])
            mended["id"] = self._id_of(mended["id"])
        if not (is_length(mended.get("height")) and is_length(mended.get("width"))) and all(
            mended.get(side) in UNSAID or is_length(mended.get(side)) for side in ("height", "width")
        ):
            self.note("images have no size: their headers are asked", entry.get("file_name"))
            self.unsized.append(number)
            mended.update(height=1, width=1)
        return mended

    def _annotation(self, entry: Any, number: int) -> Any:
        if not isinstance(entry, dict):
            return entry
        mended = {**entry, **self._integers(entry, ("id", "image_id", "category_id", "iscrowd"))}
        if type(mended.get("image_id")) is str and mended["image_id"]:
            mended["image_id"] = self._id_of(mended["image_id"])
        if not is_id(mended.get("id")) and (mended.get("id") is None or type(mended["id"]) is str):
            self.note("annotations have no number as id: they are counted", mended.get("id"))
            mended["id"] = number
        for field in ("area", "iscrowd"):
            if field in mended and mended[field] in (None, ""):
                del mended[field]
        if type(mended.get("area")) is str and (area := _number(mended["area"])) is not None:
            mended["area"] = area
        box = mended.get("bbox")
        if type(box) is list and len(box) == 4 and not is_box(box):
            numbers = [_number(side) for side in box]
            if None not in numbers:
                self.note("boxes are text", box)
                mended["bbox"] = numbers
        unset = mended.get("bbox") in (None, "", [], [0, 0, 0, 0])
        if unset and (around := box_around(entry.get("segmentation"))) is not None:
            self.note("annotations have no bbox: the box around the segmentation is taken", mended["id"])
            mended["bbox"] = around
            if mended.get("area") == 0:
                del mended["area"]
        return mended

    def _integers(self, entry: dict[str, Any], fields: tuple[str, ...]) -> dict[str, int]:
        """The fields that hold a whole number in another form, such as 7.0 or "7", as integers."""
        found = {}
        for field in fields:
            value = entry.get(field)
            whole = isinstance(value, float) and value.is_integer()
            if isinstance(value, float | str) and (whole or _NUMBER.fullmatch(str(value))):
                found[field] = int(value)
        for field in found:
            self.note(f"field {field!r} is not written as an integer", entry[field])
        return found

    def _id_of(self, text: str) -> int:
        return self._ids.setdefault(text, FIRST_OF_NAMES + len(self._ids))


def merge_repeated(content: AnnotatedImages, mending: Mending) -> AnnotatedImages:
    """Joins images of the same file, and classes of the same name."""
    first_of: dict[str, int] = {}
    same = [first_of.setdefault(name, label) for label, name in enumerate(content.class_names)]
    if len(first_of) < len(same):
        for label, first in enumerate(same):
            if label != first:
                mending.note("categories have the same name: they are one class", content.class_names[label])
        kept = list(first_of.values())
        table = np.array([kept.index(first) for first in same], dtype=np.int32)
        content = content._replace(
            class_names=list(first_of),
            category_ids=[content.category_ids[label] for label in kept],
            objects=content.objects._replace(labels=table[content.objects.labels]),
        )
    if not mending.repeated:
        return content
    by_path: dict[str, int] = {}
    owner = [by_path.setdefault(path, index) for index, path in enumerate(content.paths)]
    if len(by_path) == len(owner):
        return content
    owners = np.array(owner)
    again = np.flatnonzero(owners != np.arange(len(owner)))
    mending.note("images are listed more than once: they are one", content.paths[int(again[0])], len(again))
    objects = content.objects
    images = owners[objects.image_indices].astype(np.int32)
    rows = np.column_stack([images, objects.labels, objects.boxes])
    _, once = np.unique(rows, axis=0, return_index=True)
    merged = np.isin(images, owners[again])
    keep = ~merged
    keep[once] = True
    content = content._replace(objects=objects._replace(image_indices=images)).with_objects(keep)
    return content.with_images(np.array(list(by_path.values())))


def _number(value: Any) -> float | None:
    if is_number(value):
        return float(value)
    try:
        number = float(value) if type(value) is str else None
    except ValueError:
        return None
    return number if is_number(number) else None
