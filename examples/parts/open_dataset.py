"""The data set that a command line names, in whatever layout; what is odd about it is printed."""

import argparse
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import sparse_rcnn.data
from parts.command_line import printable
from sparse_rcnn.data import DatasetRemark, DetectionDataset

FILES = ("train_annotations", "train_images", "val_annotations", "val_images")
DATA = "a folder, data.yaml, JSON or CSV in COCO's, VOC's, YOLO's, CVAT's or another format"
SAID: set[str] = set()  # remarks that this process has printed


def add_data_options(group: Any) -> None:
    """Adds the options for splits, classes and broken files."""
    for split in ("train", "val"):
        group.add_argument(
            f"--{split}-annotations",
            metavar="PATH",
            help=f"file or folder of the {split} annotations, in place of a whole data set",
        )
        group.add_argument(f"--{split}-images", metavar="DIR", help=f"folder of the {split} images")
    group.add_argument(
        "--split",
        default="0.1",
        metavar="SHARE",
        help="for data without a validation split: the share of images to hold out, with images of every "
        "class; or the split.json of an earlier run (0.1)",
    )
    group.add_argument("--split-seed", type=int, default=0, help="seed of the choice of these images (0)")
    group.add_argument(
        "--classes",
        nargs="+",
        metavar="NAME",
        help="classes to keep. NEW=OLD,OLD merges several classes into one (all)",
    )
    group.add_argument(
        "--drop-degenerate-boxes",
        action=argparse.BooleanOptionalAction,
        help="leave out boxes without width or height. COCO has a few. Otherwise the file is refused",
    )
    group.add_argument(
        "--leave-out-broken",
        action="store_true",
        help="leave out images that are missing or have broken annotations. Otherwise they are refused",
    )
    group.add_argument(
        "--voc-count-from",
        type=int,
        choices=(0, 1),
        help="number of the first pixel in VOC files: 1 as in VOC, 0 as in CVAT (found from the boxes)",
    )


def open_split(
    arguments: argparse.Namespace,
    split: str,
    transform: Any = None,
    allow_missing: bool = False,
    quiet: bool = False,
    class_names: Sequence[str] | None = None,
    allow_absent_classes: bool = False,
) -> DetectionDataset:
    """A split of the data set that these options name; `quiet` prints no remarks.

    The classes are those of --classes, or `class_names`.
    """
    path, images = arguments.data, None
    if split in ("train", "val") and arguments.train_annotations:
        if arguments.val_annotations or split == "train":
            path = getattr(arguments, f"{split}_annotations")
            images = getattr(arguments, f"{split}_images")
        else:  # the training images are shared out
            path, images = arguments.train_annotations, arguments.train_images
    elif arguments.val_annotations and split == "val":
        path, images = arguments.val_annotations, arguments.val_images
    if path is None:
        raise ValueError("give the data (train: --data DIR), or --train-annotations and --val-annotations")
    whole = bool(arguments.train_annotations and arguments.val_annotations) or images is not None
    share = 0.0 if whole and arguments.val_annotations else share_of(arguments.split)
    return load_dataset(
        path,
        split if share or path == arguments.data else only_split(path, split),
        transform,
        drop_degenerate=bool(arguments.drop_degenerate_boxes),
        class_names=class_names or parse_classes(arguments.classes),
        allow_absent_classes=allow_absent_classes,
        allow_missing=allow_missing,
        images=images,
        val_share=share,
        split_seed=arguments.split_seed,
        leave_out_broken=arguments.leave_out_broken,
        count_from=arguments.voc_count_from,
        quiet=quiet,
    )


def open_alike(
    arguments: argparse.Namespace,
    split: str,
    first: DetectionDataset,
    transform: Any = None,
    allow_missing: bool = False,
) -> DetectionDataset:
    """Another split, with the classes of the first in their order, unless it has classes of its own.

    Its files may list fewer classes, or the same in another order or with other ids.
    """
    given = arguments, split, transform, allow_missing
    dataset = open_split(*given, allow_absent_classes=True)
    names, own = first.class_names, dataset.class_names
    if own == names or not {*own} <= {*names}:
        return dataset
    absent = [name for name in names if name not in own]
    how = f"lack {', '.join(absent[:5])}" if absent else "list them in another order"
    how += f" and {len(absent) - 5} more" if len(absent) > 5 else ""
    say(f"{split} gets the classes of train, in their order: its own files {how}")
    return open_split(*given, quiet=True, class_names=names, allow_absent_classes=True)


def only_split(path: str, split: str) -> str:
    """The name of a split in a file or folder that was given for it: its own, or the only one there is."""
    there = sparse_rcnn.data.list_splits(path)
    return split if split in there or len(there) != 1 else there[0]


def load_dataset(
    directory: str,
    split: str,
    transform: Any,
    drop_degenerate: bool = False,
    class_names: Sequence[str] | Mapping[str, Sequence[str]] | None = None,
    allow_missing: bool = False,
    quiet: bool = False,
    **options: Any,
) -> DetectionDataset:
    """As of the library, with remarks printed; the split may also be a share or a file, as of --split."""
    if split.endswith(".json") or split.replace(".", "", 1).isdigit():
        split, options["val_share"] = "val", share_of(split)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DatasetRemark)
        dataset = sparse_rcnn.data.load_dataset(
            directory,
            split,
            transform,
            drop_degenerate=drop_degenerate,
            class_names=class_names,
            allow_missing=allow_missing,
            **options,
        )
    for remark in () if quiet else dataset.remarks:
        say(remark)
    return dataset


def say(remark: str) -> None:
    """Prints a remark once: both of two splits say how they were made."""
    if remark not in SAID:
        SAID.add(remark)
        print(printable(f"remark: {remark}"))


def share_of(text: str) -> float | Path:
    """The value of --split: a share, or the file of an earlier split."""
    try:
        share = float(text)
    except ValueError:
        return Path(text)
    if not 0 <= share < 1:
        raise ValueError(f"--split must be a share from 0 to below 1, or a split.json, got {text}")
    return share


def parse_classes(words: Sequence[str] | None) -> dict[str, list[str]] | None:
    """--classes as a mapping: "vehicle=car,truck" is {"vehicle": ["car", "truck"]}."""
    if words is None:
        return None
    pairs = [word.partition("=") for word in words]
    merged = {name: old.split(",") if sign else [name] for name, sign, old in pairs}
    if len(merged) < len(words):
        raise ValueError(f"--classes must be different names, got {' '.join(words)}")
    return merged
