"""The data sets of a run, and everything that can be wrong with them."""

import argparse
import shlex
from pathlib import Path

from torchvision.transforms import v2

from parts.command_line import printable
from parts.evaluating import can_evaluate
from parts.open_dataset import open_alike, open_split
from parts.training.batches import pad
from parts.training.processes import Processes
from parts.training.resuming import SAME_DATA
from sparse_rcnn.data import (
    Batch,
    DetectionDataset,
    ShapesDataset,
    UnreadableImageError,
    describe_dataset,
    evaluation_transform,
    training_transform,
    write_split,
)
from sparse_rcnn.data.loading.transforms import CROP_RANGE, ResizeShortestEdge
from sparse_rcnn.ops import shortest_side_resize

WHOLE = 5000  # data sets up to this size are decoded before training. For larger ones, headers are read
MOST_NAMES = 100  # classes that an error names
SPLIT = "split.json"  # in the directory of a run: which images it held out
REMEDY = "--max-unreadable N trains without them"


def load_data(
    arguments: argparse.Namespace, tolerant: bool, split: Path | None = None
) -> tuple[DetectionDataset, DetectionDataset]:
    """Training and validation sets. In a tolerant run, images may be missing. `split` replaces --split."""
    evaluation = evaluation_transform(arguments.eval_size, arguments.max_size)
    if arguments.data is None:
        # Shapes are drawn at the size for training, so nothing is resized.
        flip = None if arguments.augmentation == "none" else v2.RandomHorizontalFlip(0.5)
        count = arguments.shapes_images
        directory = arguments.shapes_dir
        return (
            ShapesDataset(directory, "train", count, transform=flip, allow_missing=tolerant),
            ShapesDataset(directory, "val", min(300, count), transform=evaluation, allow_missing=tolerant),
        )
    if split is not None:
        arguments = argparse.Namespace(**{**vars(arguments), "split": str(split)})
    sizes = tuple(arguments.sizes), arguments.max_size
    training = training_transform(*sizes, arguments.crop, arguments.vertical_flip)
    if arguments.augmentation == "none":
        training = ResizeShortestEdge(*sizes)
    train = open_split(arguments, "train", training, tolerant)
    val = open_alike(arguments, "val", train, evaluation, tolerant)
    if train.class_names != val.class_names:
        raise ValueError(f"{arguments.data or arguments.val_annotations}: {_alone(train, val)}")
    if train.num_objects == 0:
        raise ValueError(
            f"{arguments.data or arguments.train_annotations}: the training set has no box to learn from"
        )
    return train, val


def open_data(
    arguments: argparse.Namespace, tolerant: bool, processes: Processes, split: Path | None = None
) -> tuple[DetectionDataset, DetectionDataset]:
    """Training and validation sets on all processes. Rank 0 checks them.

    Args:
        arguments: The options.
        tolerant: Whether images may be missing.
        processes: The processes.
        split: The split.json of a run that is resumed, in place of --split. Labels may have changed, and
            they decide which images are held out.

    Raises:
        ValueError: If something is wrong with them.
    """
    if processes.rank > 0:
        processes.wait()  # rank 0 comes first: it draws the shapes and checks every file
    try:
        training_set, validation_set = load_data(arguments, tolerant, split)
    except ValueError as error:
        if split is not None and str(error).startswith(f"{split}: "):
            raise ValueError(f"{error}; {SAME_DATA}") from error
        if "are not in" in str(error) or "has no file for" in str(error):  # missing images
            raise ValueError(f"{error}; {REMEDY}") from error
        raise
    splits = {"train": training_set, "val": validation_set}
    if processes.rank == 0:
        print("\n".join(map(printable, describe_dataset(splits).splitlines())))
        for name, size in (("--sizes", max(arguments.sizes)), ("--eval-size", arguments.eval_size)):
            if size > arguments.max_size:
                print(f"remark: {name} {size} is above --max-size {arguments.max_size}: images stay smaller")
        check_data(splits, tolerant)
        if not can_evaluate():
            print("pycocotools is not installed: no figures such as AP, only nan; pip install pycocotools")
        processes.wait()
    return training_set, validation_set


def write_down(
    arguments: argparse.Namespace, train: DetectionDataset, val: DetectionDataset, rank: int
) -> None:
    """Which images were held out, if the data set has no split of its own: --split FILE repeats it.

    Not before the run begins: until then, its directory may be that of an earlier run.
    """
    if rank == 0 and any("has no split 'val'" in remark for remark in val.remarks):
        file = Path(arguments.output) / SPLIT
        write_split(file, arguments.data, {"train": train.image_paths, "val": val.image_paths})
        print(printable(f"the split is written to {file}"))


def _alone(train: DetectionDataset, val: DetectionDataset) -> str:
    """What to do about classes that only validation has."""
    alone = [name for name in val.class_names if name not in train.class_names]
    remedy = "name the classes alike in both"
    if len(alone) < len(val.class_names):
        kept = shlex.join(train.class_names) if len(train.class_names) <= MOST_NAMES else "and those of train"
        remedy += f", or leave their boxes out with --classes {kept}"
    return f"val has classes that train has not: {', '.join(alone[:MOST_NAMES])}; {remedy}"


def check_data(datasets: dict[str, DetectionDataset], tolerant: bool) -> None:
    """Finds unreadable images before training starts. They are an error, or if tolerant, a message."""
    for name, dataset in datasets.items():
        try:
            dataset.check_images(decode=len(dataset) <= WHOLE)
        except UnreadableImageError as error:
            if not tolerant:
                raise UnreadableImageError(f"{error}; {REMEDY}") from error
            place = "others will take their place" if name == "train" else "the evaluation leaves them out"
            print(printable(f"{name}: {error}; {place}"))


def pad_to_largest(
    batch: Batch, dataset: DetectionDataset, shortest: int, longest: int, crop: bool = False
) -> Batch:
    """The batch with the padding of the largest possible batch."""
    sizes = [shortest_side_resize(height, width, shortest, longest) for height, width in dataset.image_sizes]
    if crop:  # its longest windows, in both directions
        sizes += [
            shortest_side_resize(*window, shortest, longest) for window in (CROP_RANGE, CROP_RANGE[::-1])
        ]
    height, width = (-(-max(side) // 32) * 32 for side in zip(*sizes, strict=True))
    return pad(batch, height, width)
