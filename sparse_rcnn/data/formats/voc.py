"""Pascal VOC's detection annotations: one XML file an image, and lists of images as splits.

VOC counts pixels from 1 and includes the last one, so xmin..xmax covers the pixels [xmin - 1, xmax):
a box whose xmin equals its xmax is one pixel wide. Some tools (CVAT) write edges from 0 in its place.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sparse_rcnn.data.formats.annotated_images import AnnotatedImages, ReadOptions, make_objects
from sparse_rcnn.data.formats.box_lists import check_class_names
from sparse_rcnn.data.formats.detection_dataset import DetectionDataset
from sparse_rcnn.data.formats.flat import FlatStrings
from sparse_rcnn.data.formats.image_names import first_names, is_image, shortened, suffix_order
from sparse_rcnn.data.formats.image_sizes import keep_readable, sizes_or_headers
from sparse_rcnn.data.formats.text_file import lines_of
from sparse_rcnn.data.formats.transform import Transform
from sparse_rcnn.data.formats.voc_page import VocPage, read_page
from sparse_rcnn.data.image_file import MAX_PIXELS, ExifOrientation

__all__ = ["VocDetection", "read_list", "voc_images"]


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


def voc_images(
    files: Sequence[Path],
    images: Sequence[str],
    pages: dict[Path, VocPage],
    where: Path,
    options: ReadOptions,
    class_names: Sequence[str] | None = None,
) -> AnnotatedImages:
    """The images of one split.

    Args:
        files: The XML file of each image.
        images: The path of each image.
        pages: What all files of the data set say, of all splits: they decide the classes and the counting.
        where: Folder of the files, for messages.
        options: Of these, `count_from`, `leave_out_broken` and `allow_missing`.
        class_names: The names by label; None takes the sorted names of all pages.

    Raises:
        ValueError: Naming the file and the object.
    """
    if class_names is None:
        class_names = sorted({item.name for page in pages.values() for item in page.objects})
        if not class_names:
            raise ValueError(f"{where}: no annotation file names an object")
    names = check_class_names(class_names)
    items = [
        (image, number, item)
        for image, file in enumerate(files)
        for number, item in enumerate(pages[file].objects)
    ]
    count_from, remarks = _count_from(pages, options, where)
    boxes = np.array([item.box for _, _, item in items], dtype=np.float64).reshape(-1, 4)
    boxes[:, :2] -= count_from
    # An infinite corner minus itself is NaN. check_annotations refuses it by name.
    with np.errstate(invalid="ignore"):
        boxes[:, 2:] -= boxes[:, :2]
    label = {name: index for index, name in enumerate(names)}
    for image, number, item in items:
        if item.name not in label:
            raise ValueError(
                f"{files[image]}: object {number}: name {shortened(item.name)!r} is not among the classes "
                f"{shortened(str(names))}"
            )
    sizes, problems = sizes_or_headers([pages[file].size for file in files], images, options)

    def describe(index: int) -> str:
        image, number, item = items[index]
        name = shortened(item.name)
        return f"{files[image]}: object {number} ({name}): bndbox (xmin, ymin, xmax, ymax) {item.box}"

    content = AnnotatedImages(
        FlatStrings(images),
        np.arange(1, len(files) + 1),
        sizes,
        names,
        list(range(1, len(names) + 1)),
        make_objects(
            [image for image, _, _ in items],
            [label[item.name] for _, _, item in items],
            boxes,
            [item.difficult for _, _, item in items],
        ),
        describe,
        [*remarks, *_odd({file: pages[file] for file in files}, where)],
    )
    return keep_readable(content, problems, options)


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


def _count_from(pages: dict[Path, VocPage], options: ReadOptions, where: Path) -> tuple[int, list[str]]:
    """The number of the first pixel, and a remark if it follows from the coordinates."""
    if options.count_from is not None:
        if options.count_from not in (0, 1):
            raise ValueError(f"count_from must be 0 or 1, got {options.count_from!r}")
        return options.count_from, []
    for file, page in pages.items():
        if page.count_from is not None:
            return page.count_from, []
        for number, item in enumerate(page.objects):
            low = min(item.box[:2])
            if 0 <= low < 1:
                return 0, [
                    f"{where}: coordinates are read as counted from 0, not from 1 as VOC does: {file.name}, "
                    f"object {number}, has {low:g} (count_from=1, --voc-count-from 1, says otherwise)"
                ]
    return 1, []


def _odd(pages: dict[Path, VocPage], where: Path) -> list[str]:
    """One remark for each kind of oddity, with the number of files."""
    files: dict[str, list[Path]] = {}
    for file, page in pages.items():
        for odd in page.odd:
            files.setdefault(odd, []).append(file)
    return [
        f"{where}: {len(some)} file(s), such as {some[0].name}: {odd}" for odd, some in sorted(files.items())
    ]


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
