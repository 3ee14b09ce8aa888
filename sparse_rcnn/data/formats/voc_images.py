"""The images of a split in Pascal VOC's format, from what its XML files say."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from sparse_rcnn.data.formats.annotated_images import AnnotatedImages, ReadOptions, make_objects
from sparse_rcnn.data.formats.box_lists import check_class_names
from sparse_rcnn.data.formats.class_choice import in_order
from sparse_rcnn.data.formats.flat import FlatStrings
from sparse_rcnn.data.formats.image_names import shortened
from sparse_rcnn.data.formats.image_sizes import keep_readable, sizes_or_headers
from sparse_rcnn.data.formats.voc_page import VocPage

__all__ = ["voc_images"]


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
        class_names = in_order({item.name for page in pages.values() for item in page.objects})
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
