"""Pascal VOC's detection annotations: one XML file an image, and lists of images as splits.

VOC counts pixels from 1 and includes the last one, so xmin..xmax covers the pixels [xmin - 1, xmax):
a box whose xmin equals its xmax is one pixel wide. Some tools (CVAT) write edges from 0 in its place.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sparse_rcnn.data.formats.annotated_images import ReadOptions
from sparse_rcnn.data.formats.detection_dataset import DetectionDataset
from sparse_rcnn.data.formats.image_names import first_names, is_image, shortened, suffix_order
from sparse_rcnn.data.formats.text_file import lines_of
from sparse_rcnn.data.formats.transform import Transform
from sparse_rcnn.data.formats.voc_images import voc_images
from sparse_rcnn.data.formats.voc_page import read_page
from sparse_rcnn.data.image_file import MAX_PIXELS, ExifOrientation

__all__ = ["VocDetection", "read_list"]


class VocDetection(DetectionDataset):
    """A directory in Pascal VOC's layout. Samples and attributes are those of `DetectionDataset`.

    Objects marked `difficult` are not in the targets. The evaluation ignores them, as it does crowd regions.
    `load_dataset` reads other layouts of such files, too.

    Args:
        root: The directory with `Annotations/*.xml`, `ImageSets/Main/{split}.txt` and `JPEGImages/`.
        split: "train", "val", "trainval" or any other list in `ImageSets/Main`.
        transform: A transform of torchvision.transforms.v2, called with (image, {"boxes", "labels"}).
        class_names: The names by label. None takes all names in `Annotations`, sorted. All splits of a
            directory then have the same classes.
        drop_degenerate: Leave boxes without width or height out of the targets and count them. Without it,
            they are an error. The ground truth keeps them.
        allow_missing: Keep images whose files are missing. Reading one raises `UnreadableImageError`.
        exif_orientation: "apply" if boxes were drawn on upright images, "ignore" if they were drawn on the
            stored pixels. See `DetectionDataset`.
        max_pixels: The largest number of pixels of an image, as for `read_image`.
        count_from: The number of the first pixel: 1 in VOC, 0 in CVAT's files. None: 0 if a coordinate in any
            file is below 1 (with a remark), else 1.

    Attributes:
        image_names: The file stem of each image, as in the list of the split. Image ids are 1..n in this
            order.

    Raises:
        ValueError: If XML is malformed, a field is missing or unreadable, a name is unknown, a box is
            impossible, a file is missing, or the split is empty. The message names the file, the object
            (counted from 0) and the field.

    Example:
        >>> VocDetection("VOC2007", "train").class_names
        ['cat']
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
        count_from: int | None = None,
    ) -> None:
        root = Path(root)
        annotation_dir = root / "Annotations"
        self.image_names = read_list(root / "ImageSets" / "Main" / f"{split}.txt")
        _refuse_missing(
            annotation_dir, self.image_names, {Path(name).stem for name in _listing(annotation_dir)}
        )
        image_files = _image_files(root / "JPEGImages")
        if not allow_missing:
            _refuse_missing(root / "JPEGImages", self.image_names, image_files.keys())
        files = [annotation_dir / f"{name}.xml" for name in self.image_names]
        pages = {file: read_page(file) for file in sorted({*files, *annotation_dir.glob("*.xml")})}
        images = [
            str(root / "JPEGImages" / image_files.get(name, f"{name}.jpg")) for name in self.image_names
        ]
        options = ReadOptions(
            allow_missing=allow_missing,
            count_from=count_from,
            exif_orientation=exif_orientation,
            max_pixels=max_pixels,
        )
        content = voc_images(files, images, pages, annotation_dir, options, class_names)
        super().__init__(
            **content.checked(drop_degenerate),
            transform=transform,
            exif_orientation=exif_orientation,
            max_pixels=max_pixels,
        )


def read_list(file: Path) -> list[str]:
    """The names in a list of images, one a line, each once; ValueError if there are none."""
    names = lines_of(file, " as a list of images")
    if not names:
        raise ValueError(f"{file}: the data set is empty: the list names no images")
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ValueError(f"{file}: image {shortened(name)} is listed more than once")
        seen.add(name)
    return names


def _listing(directory: Path) -> list[str]:
    try:
        return os.listdir(directory)
    except OSError as error:
        raise ValueError(f"{directory.parent} is not in Pascal VOC's layout: {error}") from error


def _image_files(directory: Path) -> dict[str, str]:
    """Maps file stems to file names."""
    names = sorted(filter(is_image, _listing(directory)), key=suffix_order)
    return {Path(name).stem: name for name in reversed(names)}  # the most preferred is written last


def _refuse_missing(directory: Path, names: list[str], present: Any) -> None:
    missing = [name for name in names if name not in present]
    if missing:
        raise ValueError(
            f"{directory}: has no file for {len(missing)} of {len(names)} images of the split: "
            f"{first_names(missing)}"
        )
