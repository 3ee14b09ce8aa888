"""Pascal VOC's detection annotations: one XML file an image, and lists of images as splits.

VOC counts pixels from 1 and includes the last one, so xmin..xmax covers the pixels [xmin - 1, xmax):
a box whose xmin equals its xmax is one pixel wide.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sparse_rcnn.data.formats.annotations import Annotations, check_annotations
from sparse_rcnn.data.formats.detection_dataset import DetectionDataset, Transform
from sparse_rcnn.data.formats.voc_page import VocObject, read_page
from sparse_rcnn.data.image_file import MAX_PIXELS, MOST_NAMED, ExifOrientation

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")  # by preference, where one image lies there in several formats


class VocDetection(DetectionDataset):
    """A directory in Pascal VOC's layout; see `DetectionDataset` for samples and attributes.

    Objects marked `difficult` are kept out of targets and evaluated as ignored, as crowd regions are.

    Args:
        root: Holds `Annotations/*.xml`, `ImageSets/Main/{split}.txt` and `JPEGImages/`.
        split: "train", "val", "trainval" or any other list in `ImageSets/Main`.
        transform: A transform of torchvision.transforms.v2, called with (image, {"boxes", "labels"}).
        class_names: The names by label. None takes the sorted names found in all files of
            `Annotations`, so that all splits of a directory agree.
        drop_degenerate: Keep boxes without width or height out of targets, and count them, instead of
            refusing them. The ground truth has them.
        allow_missing: Keep images whose files are not there; reading one raises `UnreadableImageError`.
        exif_orientation: "apply" if boxes are of the images as EXIF turns them upright, "ignore" if they are
            of the pixels as stored; see `DetectionDataset`.
        max_pixels: The most pixels of an image, as for `read_image`.

    Attributes:
        image_names: The file stem of each image, as in the split's list; image ids are 1..n in its order.

    Raises:
        ValueError: Naming the file, the object (counted from 0) and the field, for malformed XML, missing
            or unreadable fields, unknown names, impossible boxes, missing files, and an empty split.
    """

    def __init__(
        self,
        root: str | Path,
        split: str = "train",
        transform: Transform | None = None,
        *,
        class_names: Sequence[str] | None = None,
        drop_degenerate: bool = False,
        allow_missing: bool = False,
        exif_orientation: ExifOrientation = "apply",
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        root = Path(root)
        annotation_dir = root / "Annotations"
        self.image_names = _read_split(root / "ImageSets" / "Main" / f"{split}.txt")
        _refuse_missing(
            annotation_dir, self.image_names, {Path(name).stem for name in _listing(annotation_dir)}
        )
        image_files = _image_files(root / "JPEGImages")
        if not allow_missing:
            _refuse_missing(root / "JPEGImages", self.image_names, image_files.keys())

        files = [annotation_dir / f"{name}.xml" for name in self.image_names]
        pages = [read_page(file) for file in files]
        if class_names is None:
            others = sorted({*annotation_dir.glob("*.xml")} - {*files})
            everything = pages + [read_page(file) for file in others]
            class_names = sorted({item.name for page in everything for item in page.objects})
            if not class_names:
                raise ValueError(f"{annotation_dir}: no annotation file names an object")
        elif len({*class_names}) != len(class_names) or not class_names:
            raise ValueError(f"class_names must be distinct and at least one, got {list(class_names)}")

        items = [
            (image, number, item)
            for image, page in enumerate(pages)
            for number, item in enumerate(page.objects)
        ]
        corners = np.array([item.box for _, _, item in items], dtype=np.float64).reshape(-1, 4)
        corners[:, :2] -= 1
        written = corners.copy()
        # In float64 an infinite corner minus itself is NaN: silent here, refused by name below.
        with np.errstate(invalid="ignore"):
            written[:, 2:] -= corners[:, :2]
            areas = written[:, 2] * written[:, 3]
        annotations = Annotations(
            ids=np.arange(1, len(items) + 1),
            image_indices=np.array([image for image, _, _ in items], dtype=np.int64),
            labels=_labels(items, list(class_names), files),
            written_boxes=written,
            boxes=corners,
            areas=areas,
            is_crowd=np.array([item.difficult for _, _, item in items], dtype=bool),
        )

        def describe(index: int) -> str:
            image, number, item = items[index]
            return (
                f"{files[image]}: object {number} ({item.name}): bndbox (xmin, ymin, xmax, ymax) {item.box}"
            )

        image_sizes = [page.size for page in pages]
        super().__init__(
            image_paths=[
                str(root / "JPEGImages" / image_files.get(name, f"{name}.jpg")) for name in self.image_names
            ],
            image_ids=range(1, len(files) + 1),
            image_sizes=image_sizes,
            class_names=class_names,
            category_ids=range(1, len(class_names) + 1),
            checked=check_annotations(
                annotations, np.array(image_sizes, dtype=np.int64), describe, drop_degenerate=drop_degenerate
            ),
            transform=transform,
            exif_orientation=exif_orientation,
            max_pixels=max_pixels,
        )


def _read_split(file: Path) -> list[str]:
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{file}: cannot be read as a list of images: {error}") from error
    names = [line.strip() for line in lines if line.strip()]
    if not names:
        raise ValueError(f"{file}: the data set is empty: the list names no images")
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ValueError(f"{file}: image {name} is listed more than once")
        seen.add(name)
    return names


def _labels(items: list[tuple[int, int, VocObject]], class_names: list[str], files: list[Path]) -> np.ndarray:
    label = {name: index for index, name in enumerate(class_names)}
    for image, number, item in items:
        if item.name not in label:
            raise ValueError(
                f"{files[image]}: object {number}: name {item.name!r} is not among the classes {class_names}"
            )
    return np.array([label[item.name] for _, _, item in items], dtype=np.int64)


def _listing(directory: Path) -> list[str]:
    try:
        return os.listdir(directory)
    except OSError as error:
        raise ValueError(f"{directory.parent} is not in Pascal VOC's layout: {error}") from error


def _image_files(directory: Path) -> dict[str, str]:
    """Maps file stems to file names."""
    names = sorted(_listing(directory))
    # Backwards through the preferences, so that the most preferred suffix is written last.
    return {
        Path(name).stem: name
        for suffix in reversed(IMAGE_SUFFIXES)
        for name in names
        if Path(name).suffix.lower() == suffix
    }


def _refuse_missing(directory: Path, names: list[str], present: Any) -> None:
    missing = [name for name in names if name not in present]
    if missing:
        more = ", ..." if len(missing) > MOST_NAMED else ""
        raise ValueError(
            f"{directory}: has no file for {len(missing)} of {len(names)} images of the split: "
            f"{', '.join(missing[:MOST_NAMED])}{more}"
        )
