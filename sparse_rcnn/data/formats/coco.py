"""COCO's detection annotations: one JSON file with images, categories and annotations."""

import gc
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sparse_rcnn.data.formats.annotations import Annotations, check_annotations
from sparse_rcnn.data.formats.coco_fields import (
    column,
    is_area,
    is_box,
    is_flag,
    is_id,
    is_length,
    is_name,
    shown,
)
from sparse_rcnn.data.formats.detection_dataset import DetectionDataset, Transform
from sparse_rcnn.data.image_file import MAX_PIXELS, MOST_NAMED, ExifOrientation


class CocoDetection(DetectionDataset):
    """A COCO annotation file and its images; see `DetectionDataset` for samples and attributes.

    Everything that can be known without opening images is checked here: see Raises. Images without
    annotations are kept. Categories become labels by ascending id.

    Args:
        image_dir: The directory that `file_name` of the images is relative to.
        annotation_file: COCO JSON with "images", "annotations" and "categories"; segmentations are ignored.
        transform: A transform of torchvision.transforms.v2, called with (image, {"boxes", "labels"}).
        drop_degenerate: Keep boxes without width or height out of targets, and count them, instead of
            refusing them (the published train2017 has a few). The ground truth has them, as pycocotools'.
        allow_missing: Keep images whose files are not there; reading one raises `UnreadableImageError`.
        exif_orientation: "apply" if boxes are of the images as EXIF turns them upright, "ignore" if they are
            of the pixels as stored; see `DetectionDataset`.
        max_pixels: The most pixels of an image, as for `read_image`.

    Raises:
        ValueError: Naming the file, the annotation and the field, for malformed JSON, missing or wrongly
            typed fields, unknown categories or images, duplicate ids, impossible boxes, missing image
            files, and a data set without images.
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
        images, entries, categories = _read_sections(file)
        if not images:
            raise ValueError(f"{file}: the data set is empty: 'images' has no entries")

        image_ids = column(images, "id", is_id, "an integer", file, "image")
        _refuse_duplicates(image_ids, file, "image")
        names = column(images, "file_name", is_name, "a non-empty string", file, "image")
        heights = column(images, "height", is_length, "a positive integer", file, "image")
        widths = column(images, "width", is_length, "a positive integer", file, "image")
        image_sizes = list(zip(heights, widths, strict=True))
        if not Path(image_dir).is_dir():
            raise ValueError(f"{image_dir}: there is no such directory of images")
        if not allow_missing:
            _refuse_missing(Path(image_dir), names, file)

        category_ids = column(categories, "id", is_id, "an integer", file, "category")
        _refuse_duplicates(category_ids, file, "category")
        class_names = column(categories, "name", is_name, "a non-empty string", file, "category")
        if not category_ids:
            raise ValueError(f"{file}: 'categories' has no entries")
        by_id = dict(sorted(zip(category_ids, class_names, strict=True)))

        ids = column(entries, "id", is_id, "an integer", file, "annotation")
        _refuse_duplicates(ids, file, "annotation")
        boxes = column(
            entries, "bbox", is_box, "[x, y, width, height], four finite numbers", file, "annotation"
        )
        widths_heights = np.array(boxes, dtype=np.float64).reshape(-1, 4)
        corners = widths_heights.copy()
        corners[:, 2:] += corners[:, :2]
        # Where "area" is absent the box's own is the closest there is (the field counts the mask's pixels).
        areas = column(entries, "area", is_area, "a finite number >= 0", file, "annotation", default=None)
        box_areas = widths_heights[:, 2] * widths_heights[:, 3]
        areas = [box_areas[index] if area is None else area for index, area in enumerate(areas)]
        crowd = column(entries, "iscrowd", is_flag, "0 or 1", file, "annotation", default=0)
        annotations = Annotations(
            ids=np.array(ids, dtype=np.int64),
            image_indices=_positions(entries, "image_id", image_ids, file),
            labels=_positions(entries, "category_id", list(by_id), file),
            written_boxes=widths_heights,
            boxes=corners,
            areas=np.array(areas, dtype=np.float64),
            is_crowd=np.array(crowd, dtype=bool),
        )
        checked = check_annotations(
            annotations,
            np.array(image_sizes, dtype=np.int64),
            lambda index: f"{file}: annotation {ids[index]}: bbox {boxes[index]}",
            drop_degenerate=drop_degenerate,
        )
        super().__init__(
            image_paths=[os.path.join(image_dir, name) for name in names],
            image_ids=image_ids,
            image_sizes=image_sizes,
            class_names=list(by_id.values()),
            category_ids=list(by_id),
            checked=checked,
            transform=transform,
            exif_orientation=exif_orientation,
            max_pixels=max_pixels,
        )


def find_coco(directory: str | Path, split: str) -> tuple[Path, Path]:
    """Locates a split in COCO's standard layout.

    Args:
        directory: Holds `annotations/instances_{split}2017.json` and the images in `{split}2017/`.
        split: "train" or "val".

    Returns:
        The image directory and the annotation file, as `CocoDetection` takes them.

    Raises:
        ValueError: Naming what is not there.
    """
    image_dir = Path(directory) / f"{split}2017"
    annotation_file = Path(directory) / "annotations" / f"instances_{split}2017.json"
    if not annotation_file.is_file():
        raise ValueError(f"{directory} is not in COCO's layout: there is no file {annotation_file}")
    if not image_dir.is_dir():
        raise ValueError(f"{directory} is not in COCO's layout: there is no directory {image_dir}")
    return image_dir, annotation_file


def _read_sections(file: Path) -> tuple[list[Any], list[Any], list[Any]]:
    # Parsing makes millions of objects and no garbage; the collector, run again and again in between, would
    # take half of the 30 s that train2017 needs.
    collecting = gc.isenabled()
    gc.disable()
    try:
        content = json.loads(file.read_bytes())
    except OSError as error:
        raise ValueError(f"{file}: cannot be read: {error}") from error
    except (
        ValueError,
        RecursionError,
    ) as error:  # both JSONDecodeError and UnicodeDecodeError are ValueError
        raise ValueError(f"{file}: is not valid JSON: {error}") from error
    finally:
        if collecting:
            gc.enable()
    if not isinstance(content, dict):
        raise ValueError(f"{file}: expected a JSON object, got {type(content).__name__}")
    for section in ("images", "annotations", "categories"):
        if not isinstance(content.get(section), list):
            raise ValueError(f"{file}: field {section!r} must be a list, got {shown(content, section)}")
    return content["images"], content["annotations"], content["categories"]


def _positions(entries: list[Any], field: str, known: Sequence[int], file: Path) -> np.ndarray:
    """Maps an id field to the position of that id in `known`."""
    position = {known_id: index for index, known_id in enumerate(known)}
    positions = np.empty(len(entries), dtype=np.int64)
    for index, value in enumerate(column(entries, field, is_id, "an integer", file, "annotation")):
        if value not in position:
            section = {"image_id": "images", "category_id": "categories"}[field]
            raise ValueError(
                f"{file}: annotation {entries[index]['id']}: {field} {value} is not among {section!r}"
            )
        positions[index] = position[value]
    return positions


def _refuse_duplicates(ids: list[int], file: Path, kind: str) -> None:
    seen: set[int] = set()
    for known_id in ids:
        if known_id in seen:
            raise ValueError(f"{file}: {kind} id {known_id} occurs more than once")
        seen.add(known_id)


def _refuse_missing(image_dir: Path, names: list[str], file: Path) -> None:
    # One listing a directory: a stat for each of 118k files takes minutes on a network drive.
    folders = {os.path.dirname(name) for name in names}
    present = {folder: _listing(image_dir / folder) for folder in folders}
    missing = [name for name in names if os.path.basename(name) not in present[os.path.dirname(name)]]
    if missing:
        more = ", ..." if len(missing) > MOST_NAMED else ""
        raise ValueError(
            f"{file}: {len(missing)} of {len(names)} images are not in {image_dir}: "
            f"{', '.join(missing[:MOST_NAMED])}{more}"
        )


def _listing(directory: Path) -> set[str]:
    return set(os.listdir(directory)) if directory.is_dir() else set()
