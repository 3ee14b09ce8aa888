"""What is kept of COCO's images and annotations while a file is read: columns, not objects."""

from pathlib import Path
from typing import Any

import numpy as np

from sparse_rcnn.data.formats.coco_fields import (
    areas_of,
    boxes_of,
    column,
    columns_at_once,
    crowds_of,
    integers,
    is_length,
    names_of,
)
from sparse_rcnn.data.formats.coco_mending import Mending
from sparse_rcnn.data.formats.lvis_fields import IMAGE_FIELDS

__all__ = ["CocoColumns"]


class CocoColumns:
    """The columns of one file.

    Args:
        file: For messages.
        mending: As of `read_coco`.
    """

    def __init__(self, file: Path, mending: Mending | None) -> None:
        self.file = file
        self.mending = mending
        self.names: list[str] = []
        self.lvis: dict[int, tuple[Any, Any]] = {}
        self._images: list[np.ndarray] = [np.empty((0, 3), dtype=np.int64)]
        self._rows: list[tuple[np.ndarray, ...]] = []

    def add_images(self, entries: list[Any], first: int) -> None:
        """Takes entries of "images", and the number of the first. A ValueError names what is wrong."""
        try:
            self._add_images(entries, first)
        except ValueError:
            if self.mending is None:
                raise
            self._add_images(self.mending.images(entries, first), first)

    def _add_images(self, entries: list[Any], first: int) -> None:
        ids = integers(entries, ("id",), self.file, "image", first)
        names = names_of(entries, self.file, first)
        for field in ("height", "width"):
            column(entries, field, is_length, "a positive integer", self.file, "image", first=first)
        sizes = integers(entries, ("height", "width"), self.file, "image", first)
        self._images.append(np.concatenate([ids, sizes], axis=1))
        if entries and IMAGE_FIELDS[0] in entries[0]:
            for id, entry in zip(ids[:, 0].tolist(), entries, strict=True):
                if all(field in entry for field in IMAGE_FIELDS):
                    self.lvis[id] = (entry[IMAGE_FIELDS[0]], entry[IMAGE_FIELDS[1]])
        self.names += names

    def drop_repeated(self) -> None:
        """Leaves out images whose id and name were there before."""
        table = np.concatenate(self._images)
        if len(np.unique(table[:, 0])) == len(table):
            return
        seen: set[tuple[int, str]] = set()
        keep = [
            index
            for index, key in enumerate(zip(table[:, 0].tolist(), self.names, strict=True))
            if not (key in seen or seen.add(key))  # type: ignore[func-returns-value]
        ]
        if self.mending is not None and len(keep) < len(table):
            count = len(table) - len(keep)
            self.mending.note("images are there twice", self.names[-1], count)
            position = {index: place for place, index in enumerate(keep)}
            self.mending.unsized = [position[index] for index in self.mending.unsized if index in position]
        self._images = [table[keep]]
        self.names = [self.names[index] for index in keep]

    def add_annotations(self, entries: list[Any], first: int) -> None:
        """Takes entries of "annotations", as `add_images` does."""
        columns = columns_at_once(entries)
        odd = columns is None or not columns[3].any(axis=1).all()  # a box of zeros was not filled in
        if odd and self.mending is not None:
            entries = self.mending.annotations(entries, first, self._look_at_each)
            columns = columns_at_once(entries)
        self._rows.append(columns or self._look_at_each(entries, first))

    def _look_at_each(self, entries: list[Any], first: int) -> tuple[np.ndarray, ...]:
        """Looks at each value of each field: something is absent or wrong."""
        ids = integers(entries, ("id", "image_id", "category_id"), self.file, "annotation", first)
        boxes = boxes_of(entries, self.file, first)
        areas = areas_of(entries, boxes, self.file, first)
        return (*ids.T.copy(), boxes, areas, crowds_of(entries, self.file, first))

    def images(self) -> tuple[np.ndarray, np.ndarray]:
        """Ids [I], and (height, width) [I, 2]."""
        table = np.concatenate(self._images)
        return table[:, 0].copy(), table[:, 1:].copy()

    def annotations(self) -> tuple[np.ndarray, ...]:
        """Ids, image ids, category ids, boxes, areas and flags. The pieces are freed."""
        kinds = (np.int64,) * 3 + (np.float64,) * 2 + (bool,)
        empty = [np.empty((0, 4) if number == 3 else 0, dtype=kind) for number, kind in enumerate(kinds)]
        columns = [list(column) for column in zip(empty, *self._rows, strict=True)]
        self._rows = []
        for number, pieces in enumerate(columns):
            columns[number] = np.concatenate(pieces)  # type: ignore[call-overload]
            pieces.clear()
        return tuple(columns)  # type: ignore[arg-type]
