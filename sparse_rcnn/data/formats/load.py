"""Opens a data set of any known layout: recognises it, reads it, splits it and checks it."""

import difflib
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from sparse_rcnn.data.formats.annotated_images import AnnotatedImages, ReadOptions
from sparse_rcnn.data.formats.class_choice import choose_classes
from sparse_rcnn.data.formats.counted import counted
from sparse_rcnn.data.formats.detection_dataset import DetectionDataset
from sparse_rcnn.data.formats.held_out import choose_held_out, read_split, split_names
from sparse_rcnn.data.formats.image_names import Folders
from sparse_rcnn.data.formats.layout import SPLIT_NAMES, Layout
from sparse_rcnn.data.formats.recognise import name_of_split, names_alike, names_in_order, recognise
from sparse_rcnn.data.formats.transform import Transform
from sparse_rcnn.data.image_file import MAX_PIXELS, ExifOrientation
from sparse_rcnn.ops.argument_checks import whole_number

__all__ = ["PARTS", "list_splits", "load_dataset"]

PARTS = ("train", "val")  # which a data set without splits is divided into


def load_dataset(
    path: str | Path,
    split: str = "train",
    transform: Transform | None = None,
    *,
    images: str | Path | None = None,
    class_names: Sequence[str] | Mapping[str, Sequence[str]] | None = None,
    val_share: float | str | Path = 0.1,
    split_seed: int = 0,
    drop_degenerate: bool = False,
    allow_missing: bool = False,
    allow_absent_classes: bool = False,
    leave_out_broken: bool = False,
    count_from: int | None = None,
    exif_orientation: ExifOrientation = "apply",
    max_pixels: int = MAX_PIXELS,
) -> DetectionDataset:
    """A split of a data set in COCO's, LVIS's, VOC's, YOLO's, CrowdHuman's, CVAT's or a simpler format.

    The layout is recognised by its file names. It may come from COCO, Roboflow, Ultralytics, Darknet, CVAT,
    Label Studio, makesense, Kaggle, LabelMe, VIA or CreateML. Upper and lower case does not matter, and the
    files may lie one or two folders deeper.

    Args:
        path: A folder, a `data.yaml`, a Darknet `.data`, a JSON, an `.odgt`, or a list of images.
        split: "train", "val" ("valid"), "test", "all" (of a data set without splits), or another name in the
            files. If there is no "val", it is a share of the training images: see `val_share`.
        transform: A transform of torchvision.transforms.v2, called with (image, {"boxes", "labels"}).
        images: The folder of the images, if the layout does not say it.
        class_names: The classes to keep, by label. Boxes of other classes are left out. A mapping merges
            classes: `{"vehicle": ["car", "truck"]}`. None keeps all, in the order of the files.
        val_share: The share of the images to hold out if there is no "val". Names and seed decide which. A
            class with two images or more is on both sides. 0 holds out none. Or a file from `write_split`.
        split_seed: The seed of this choice.
        drop_degenerate: Leave boxes without width or height out of the targets and count them. Without it,
            they are an error.
        allow_missing: Keep images whose files are missing. Reading one raises `UnreadableImageError`.
        allow_absent_classes: Accept class names that the data set does not have. It must have one of them.
        leave_out_broken: Leave out images that are missing or whose annotation file is broken, each with a
            remark. Without it, they are an error.
        count_from: VOC: the number of the first pixel, 1 (VOC) or 0 (CVAT); None looks at the coordinates.
        exif_orientation: "apply" if boxes were drawn on upright images, "ignore" if they were drawn on the
            stored pixels. See `DetectionDataset`.
        max_pixels: The largest number of pixels of an image, as for `read_image`.

    Returns:
        The data set. Its `remarks`, and warnings (`DatasetRemark`), name what is unusual but harmless.

    Raises:
        ValueError: If something is wrong. The message names file, entry, field and value. If the layout is
            not known, it says what was found. If a split is missing, it lists the splits.

    Example:
        >>> from sparse_rcnn.data import ShapesDataset
        >>> _ = ShapesDataset("shapes", "val", num_images=2)  # writes files in COCO's layout
        >>> len(load_dataset("shapes", "val"))
        2
    """
    path = Path(path)
    split_seed = whole_number("split_seed", split_seed, -(2**63))
    folder = str(images) if images else None
    options = ReadOptions(folder, allow_missing, leave_out_broken, count_from, exif_orientation, max_pixels)
    layout = recognise(path, split)
    content, remarks = _read_split(layout, split, path, options, val_share, split_seed)
    content = content._replace(remarks=[*layout.remarks, *content.remarks, *remarks])
    if class_names is not None:
        try:
            content = choose_classes(content, class_names, allow_absent=allow_absent_classes)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error
    dataset = DetectionDataset(
        **content.checked(drop_degenerate),
        transform=transform,
        exif_orientation=exif_orientation,
        max_pixels=max_pixels,
    )
    dataset.format_name = layout.format
    return dataset


def list_splits(path: str | Path) -> list[str]:
    """The names of the splits of a data set.

    Args:
        path: As for `load_dataset`.

    Returns:
        The names. ["all"] if the data set has no splits.

    Raises:
        ValueError: If the layout is not known.

    Example:
        >>> from sparse_rcnn.data import ShapesDataset
        >>> _ = ShapesDataset("shapes", "val", num_images=2)  # writes files in COCO's layout
        >>> list_splits("shapes")
        ['val']
    """
    return names_in_order(recognise(Path(path)))


def _read_split(
    layout: Layout, split: str, path: Path, options: ReadOptions, val_share: float | str | Path, seed: int
) -> tuple[AnnotatedImages, list[str]]:
    """A split of the files, or a part of the training images, and a remark on it."""

    def read(name: str) -> AnnotatedImages:
        content = layout.splits[name](options)
        return _without_impossible(_without_missing(content)) if options.leave_out_broken else content

    name, wanted = name_of_split(layout, split), SPLIT_NAMES.get(split.lower(), split)
    training = name_of_split(layout, "train")
    if training is None and "all" in layout.splits and not any(names_alike(layout, one) for one in PARTS):
        training = "all"
    held_out = not names_alike(layout, "val") and training is not None and val_share != 0
    if not (held_out and wanted in PARTS):
        if name is None and wanted == "train":
            name = training
        if name is None:
            raise _no_such_split(layout, split, path)
        return read(name), _beside(layout, name, path)
    content = read(training or "")
    base = path if path.is_dir() else path.parent
    names = split_names(content, base)
    if isinstance(val_share, (str, Path)):
        chosen, how = read_split(Path(val_share), names), f"as {val_share} says"
    else:
        try:
            rows = content.objects
            chosen = choose_held_out(names, rows.image_indices, rows.labels, val_share, seed)
        except ValueError as error:
            raise ValueError(f"{path}: has no split 'val', and {error}") from error
        how = f"a share of {val_share:g}, chosen by their names and seed {seed}"
    remark = f"{path}: has no split 'val': {len(chosen)} of {len(names)} images are it, {how}"
    others = np.setdiff1d(np.arange(len(names)), chosen)
    remarks = [remark, *_beside(layout, training or "", path)]
    return content.with_images(chosen if wanted == "val" else others), remarks


def _beside(layout: Layout, name: str, path: Path) -> list[str]:
    """A remark on other files of the split that is read: minival beside val, train2017 beside train."""
    others = [other for other in names_alike(layout, name) if other != name]
    if not others:
        return []
    return [f"{path}: split {name!r} is read without {', '.join(others)}, which the folder has besides"]


def _no_such_split(layout: Layout, split: str, path: Path) -> ValueError:
    there = [name for name in names_in_order(layout) if name != "all"]
    several = names_alike(layout, split)
    if len(several) > 1:
        return ValueError(
            f"{path}: has several splits '{split}': give one of {', '.join(several)} (train.py: its file as "
            "--train-annotations or --val-annotations)"
        )
    close = difflib.get_close_matches(split, there, 1, 0.6)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    what = f"has no split {split!r}: there is {', '.join(there) or 'one set of images without splits'}"
    odd = "".join(f"; {remark}" for remark in layout.remarks)
    return ValueError(f"{path}: {what}{hint} ({layout.format}){odd}")


def _without_missing(content: AnnotatedImages) -> AnnotatedImages:
    """The images whose files exist."""
    has = partial(Folders.has, Folders())
    there = np.array([has(path) for path in content.paths], dtype=bool)
    if there.all():
        return content
    gone = content.paths[int(np.argmin(there))]
    said = counted(int(np.count_nonzero(~there)), "image is", "images are")
    remark = f"{said} not there and left out, such as {gone}"
    return content.with_images(np.flatnonzero(there))._replace(remarks=[*content.remarks, remark])


def _without_impossible(content: AnnotatedImages) -> AnnotatedImages:
    """The images in which all boxes are finite and have no negative width or height."""
    boxes = content.objects.boxes
    wrong = ~np.isfinite(boxes).all(axis=1) | np.less(boxes[:, 2:], 0).any(axis=1)
    if not wrong.any():
        return content
    broken = np.unique(content.objects.image_indices[wrong])
    example = content.describe(int(np.argmax(wrong)))
    said = counted(len(broken), "image has", "images have")
    remark = f"{said} a box that is impossible: left out: {example}"
    kept = np.setdiff1d(np.arange(len(content.paths)), broken)
    return content.with_images(kept)._replace(remarks=[*content.remarks, remark])
