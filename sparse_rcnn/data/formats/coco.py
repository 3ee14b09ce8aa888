"""COCO's detection annotations: one JSON file with images, categories and annotations."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sparse_rcnn.data.formats.annotated_images import AnnotatedImages
from sparse_rcnn.data.formats.annotations import Objects
from sparse_rcnn.data.formats.coco_fields import (
    areas_of,
    boxes_of,
    column,
    columns_at_once,
    crowds_of,
    integers,
    is_id,
    is_length,
    is_name,
    names_of,
    shown,
)
from sparse_rcnn.data.formats.coco_mending import Mending
from sparse_rcnn.data.formats.detection_dataset import DetectionDataset, Transform
from sparse_rcnn.data.formats.flat import FlatStrings
from sparse_rcnn.data.formats.image_names import refuse_missing
from sparse_rcnn.data.formats.json_sections import Consumed, read_sections
from sparse_rcnn.data.formats.lvis_fields import IMAGE_FIELDS, read_lvis_fields
from sparse_rcnn.data.image_file import MAX_PIXELS, ExifOrientation

__all__ = ["SECTIONS", "CocoDetection", "find_coco", "read_coco"]

SECTIONS = ("images", "annotations", "categories")


class CocoDetection(DetectionDataset):
    """A COCO annotation file and its images. Samples and attributes are those of `DetectionDataset`.

    The annotations are checked at once, without opening images. Images without annotations are kept. The
    categories become labels in the order of their ids.

    Args:
        image_dir: The directory of the images. Each `file_name` is relative to it.
        annotation_file: COCO JSON with "images", "annotations" and "categories". Segmentations are ignored.
        transform: A transform of torchvision.transforms.v2, called with (image, {"boxes", "labels"}).
        drop_degenerate: Leave boxes without width or height out of the targets and count them. Without it,
            they are an error. The published train2017 has a few. The ground truth keeps them, as in
            pycocotools.
        allow_missing: Keep images whose files are missing. Reading one raises `UnreadableImageError`.
        exif_orientation: "apply" if boxes were drawn on upright images, "ignore" if they were drawn on the
            stored pixels. See `DetectionDataset`.
        max_pixels: The largest number of pixels of an image, as for `read_image`.

    Raises:
        ValueError: If the JSON is malformed, a field is missing or has a wrong type, a category or an image
            is unknown, an id comes twice, a box is impossible, an image file is missing, or there are no
            images. The message names the file, the annotation and the field.

    Example:
        >>> from sparse_rcnn.data import ShapesDataset
        >>> _ = ShapesDataset("shapes", "val", num_images=2)  # writes files in COCO's layout
        >>> len(CocoDetection("shapes/val2017", "shapes/annotations/instances_val2017.json"))
        2
    """

    def __init__(
        self,
        image_dir: str | Path,
        annotation_file: str | Path,
        transform: Transform | None = None,
        *,
        drop_degenerate: bool = False,
        allow_missing: bool = False,
        exif_orientation: ExifOrientation = "apply",
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        file = Path(annotation_file)

        def locate(names: Sequence[str]) -> tuple[list[str], list[str]]:
            if not Path(image_dir).is_dir():
                raise ValueError(f"{image_dir}: there is no such directory of images")
            if not allow_missing:
                refuse_missing(Path(image_dir), names, file)
            return [os.path.join(image_dir, name) for name in names], []

        content, _ = read_coco(file, locate)
        super().__init__(
            **content.checked(drop_degenerate),
            transform=transform,
            exif_orientation=exif_orientation,
            max_pixels=max_pixels,
        )


def find_coco(directory: str | Path, split: str) -> tuple[Path, Path]:
    """Finds a split in COCO's standard layout.

    Args:
        directory: The directory with `annotations/instances_{split}2017.json` and the images in
            `{split}2017/`.
        split: "train" or "val".

    Returns:
        The image directory and the annotation file: the arguments of `CocoDetection`.

    Raises:
        ValueError: If one of them is missing. The message names it.

    Example:
        >>> from sparse_rcnn.data import ShapesDataset
        >>> _ = ShapesDataset("shapes", "val", num_images=2)  # writes files in COCO's layout
        >>> find_coco("shapes", "val")[0].name
        'val2017'
    """
    image_dir = Path(directory) / f"{split}2017"
    annotation_file = Path(directory) / "annotations" / f"instances_{split}2017.json"
    if not annotation_file.is_file():
        raise ValueError(f"{directory} is not in COCO's layout: there is no file {annotation_file}")
    if not image_dir.is_dir():
        raise ValueError(f"{directory} is not in COCO's layout: there is no directory {image_dir}")
    return image_dir, annotation_file


def read_coco(
    file: Path,
    locate: Callable[[Sequence[str]], tuple[list[str], list[str]]],
    mending: Mending | None = None,
) -> tuple[AnnotatedImages, list[int]]:
    """Reads a COCO JSON of any size, piece by piece.

    Args:
        file: The JSON.
        locate: From the images' `file_name`s to their paths, and remarks.
        mending: Reads what leaves no doubt; None refuses it.

    Returns:
        Images, classes by ascending id, and objects; and the ids of categories that are a name above others
        (their `supercategory`) and have none above themselves.

    Raises:
        ValueError: As `CocoDetection`.
    """
    columns = _Columns(file, mending)
    consumers = {"images": columns.add_images, "annotations": columns.add_annotations}
    members = read_sections(file, consumers)
    for section in SECTIONS:
        if not isinstance(members.get(section), list if section == "categories" else Consumed):
            raise ValueError(f"{file}: field {section!r} must be a list, got {shown(members, section)}")
    if not columns.names:
        raise ValueError(f"{file}: the data set is empty: 'images' has no entries")
    if mending is not None:
        columns.drop_repeated()
        members["categories"] = mending.categories(members["categories"])
    image_ids, sizes = columns.images()
    _refuse_duplicates(image_ids, file, "image")
    if mending is not None:
        mending.repeated = len({*columns.names}) < len(columns.names)
    paths, remarks = locate(columns.names)
    columns.names = []
    by_id, parents = _categories(members["categories"], file)
    ids, image_of, category_of, boxes, areas, is_crowd = columns.annotations()
    ids = mending.numbered(ids) if mending is not None else ids
    _refuse_duplicates(ids, file, "annotation")
    image_of = _positions(image_of, image_ids, ids, "image_id", file, mending)
    labels = _positions(category_of, np.array(list(by_id)), ids, "category_id", file, mending)
    del category_of
    if mending is not None and (lost := (image_of < 0) | (labels < 0)).any():
        for index in np.flatnonzero(labels < 0).tolist():
            said = f"{file}: annotation {ids[index]}: its category is not among 'categories'"
            mending.broken.setdefault(int(image_ids[image_of[index]]), said)
        ids, image_of, labels, boxes, areas, is_crowd = (
            column[~lost] for column in (ids, image_of, labels, boxes, areas, is_crowd)
        )
    if np.less(np.diff(image_of), 0).any():  # ordered here, one column after the other: each is there once
        order = np.argsort(image_of, kind="stable")
        ids, image_of, labels = ids[order], image_of[order], labels[order]
        boxes = boxes[order]
        areas, is_crowd = areas[order], is_crowd[order]
    objects = Objects(ids, image_of, labels, boxes, areas, is_crowd)

    def describe(index: int) -> str:
        return f"{file}: annotation {ids[index]}: bbox {boxes[index].tolist()}"

    names, categories = list(by_id.values()), list(by_id)
    lvis_images = columns.lvis if len(columns.lvis) == len(image_ids) else {}
    lvis = read_lvis_fields(lvis_images, members["categories"], file)
    content = AnnotatedImages(
        FlatStrings(paths), image_ids, sizes, names, categories, objects, describe, remarks, lvis
    )
    return content, parents


class _Columns:
    """What is kept of images and annotations while the file is read."""

    def __init__(self, file: Path, mending: Mending | None) -> None:
        self.file = file
        self.mending = mending
        self.names: list[str] = []
        self.lvis: dict[int, tuple[Any, Any]] = {}
        self._images: list[np.ndarray] = [np.empty((0, 3), dtype=np.int64)]
        self._rows: list[tuple[np.ndarray, ...]] = []

    def add_images(self, entries: list[Any], first: int) -> None:
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
        columns = columns_at_once(entries)
        if columns is None and self.mending is not None:
            entries = self.mending.annotations(entries, first, self._look_at_each)
            columns = columns_at_once(entries)
        self._rows.append(columns or self._look_at_each(entries, first))

    def _look_at_each(self, entries: list[Any], first: int) -> tuple[np.ndarray, ...]:
        """Something is absent or wrong: field by field, each value looked at."""
        ids = integers(entries, ("id", "image_id", "category_id"), self.file, "annotation", first)
        boxes = boxes_of(entries, self.file, first)
        areas = areas_of(entries, boxes, self.file, first)
        return (*ids.T.copy(), boxes, areas, crowds_of(entries, self.file, first))

    def images(self) -> tuple[np.ndarray, np.ndarray]:
        """Ids [I], and (height, width) [I, 2]."""
        table = np.concatenate(self._images)
        return table[:, 0].copy(), table[:, 1:].copy()

    def annotations(self) -> tuple[np.ndarray, ...]:
        """Ids, image ids, category ids, boxes, areas and flags; the pieces are let go of."""
        kinds = (np.int64,) * 3 + (np.float64,) * 2 + (bool,)
        empty = [np.empty((0, 4) if number == 3 else 0, dtype=kind) for number, kind in enumerate(kinds)]
        columns = [list(column) for column in zip(empty, *self._rows, strict=True)]
        self._rows = []
        for number, pieces in enumerate(columns):
            columns[number] = np.concatenate(pieces)  # type: ignore[call-overload]
            pieces.clear()
        return tuple(columns)  # type: ignore[arg-type]


def _categories(entries: list[Any], file: Path) -> tuple[dict[int, str], list[int]]:
    """The names by ascending id, and the ids of those that are a name above others."""
    ids = column(entries, "id", is_id, "an integer", file, "category")
    _refuse_duplicates(np.array(ids), file, "category")
    names = column(entries, "name", is_name, "a non-empty string", file, "category")
    if not ids:
        raise ValueError(f"{file}: 'categories' has no entries")
    above = {str(entry.get("supercategory")) for entry in entries}
    top = {"", "none", "None"}
    parents = [
        id
        for id, name, entry in zip(ids, names, entries, strict=True)
        if name in above and str(entry.get("supercategory", "")) in top
    ]
    return dict(sorted(zip(ids, names, strict=True))), parents


def _positions(
    values: np.ndarray,
    known: np.ndarray,
    ids: np.ndarray,
    field: str,
    file: Path,
    mending: Mending | None,
) -> np.ndarray:
    """Maps an id field to the position of that id in `known`, [n] int32; -1: left out."""
    order = np.argsort(known, kind="stable")
    ordered = known[order]
    low, high = int(ordered[0]), int(ordered[-1])
    if high - low < 4 * len(known) + 1024:  # dense: a table is faster than a search
        table = np.full(high - low + 1, -1, dtype=np.int32)
        table[known - low] = np.arange(len(known), dtype=np.int32)
        inside = (values >= low) & (values <= high)
        positions = np.where(inside, table[np.where(inside, values - low, 0)], np.int32(-1))
    else:
        places = np.minimum(np.searchsorted(ordered, values), len(known) - 1)
        positions = np.where(ordered[places] == values, order[places], -1).astype(np.int32)
    if (wrong := positions < 0).any():
        first = int(np.argmax(wrong))
        section = {"image_id": "images", "category_id": "categories"}[field]
        said = f"{field} {values[first]} is not among {section!r}"
        count = int(np.count_nonzero(wrong))
        if mending is None or not mending.leave_out_broken:
            others = f" (and {count - 1} more like it)" if count > 1 else ""
            how = "; leave_out_broken=True, --leave-out-broken, leaves them out" if mending else ""
            raise ValueError(f"{file}: annotation {ids[first]}: {said}{others}{how}")
        mending.note(f"annotations are left out: their {field} is not among {section!r}", ids[first], count)
    return positions


def _refuse_duplicates(ids: np.ndarray, file: Path, kind: str) -> None:
    if np.greater(np.diff(ids), 0).all():
        return
    ordered = np.sort(ids)
    again = ordered[1:][ordered[1:] == ordered[:-1]]
    if len(again):
        raise ValueError(f"{file}: {kind} id {again[0]} occurs more than once")
