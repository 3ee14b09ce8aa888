"""Shows a data set before training: a table, possible faults and a picture. It can also convert it.

    python examples/dataset.py photos/
    python examples/dataset.py photos/ --classes RBC WBC --num-proposals 300
    python examples/dataset.py photos/ --convert coco photos_coco/

The picture (dataset.png) shows samples with their boxes, the boxes by class, and the sizes of boxes.
"""

import argparse
from pathlib import Path

from parts.command_line import CommandLine, printable, run
from parts.dataset_picture import draw_dataset
from parts.open_dataset import DATA, add_data_options, open_alike, open_split
from parts.outputs import check_outputs

from sparse_rcnn.data import DetectionDataset, describe_dataset, list_splits, write_dataset
from sparse_rcnn.data.formats.counted import counted

FORMATS = ("coco", "yolo", "voc")


def parse_arguments() -> argparse.Namespace:
    parser = CommandLine(__doc__)
    parser.add_argument("data", nargs="?", metavar="DATA", help=DATA)
    add_data_options(parser)
    parser.add_argument(
        "--num-proposals",
        type=int,
        default=100,
        help="images with more objects than this are named (100)",
    )
    parser.add_argument(
        "--picture", default="dataset.png", metavar="FILE", help="file of the picture (dataset.png)"
    )
    parser.add_argument(
        "--convert",
        nargs=2,
        metavar=("FORMAT", "OUT"),
        help=f"write all splits into the new folder OUT: {', '.join(FORMATS)}",
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the choice of samples (0)")
    arguments: argparse.Namespace = parser.parse_args()
    if arguments.convert and arguments.convert[0] not in FORMATS:
        parser.error(f"--convert: the format must be one of {', '.join(FORMATS)}, got {arguments.convert[0]}")
    return arguments


def open_splits(arguments: argparse.Namespace) -> dict[str, DetectionDataset]:
    """Training and validation images, and other splits if there are any."""
    names = ["train", "val"]
    if arguments.data and not arguments.train_annotations:
        there = list_splits(arguments.data)
        names += [name for name in there if name not in (*names, "all", "trainval")]
        if not {"train", "trainval", "all"} & {*there}:
            names = there
    first = open_split(arguments, names[0])
    return {names[0]: first, **{name: open_alike(arguments, name, first) for name in names[1:]}}


def main() -> None:
    arguments = parse_arguments()
    splits = open_splits(arguments)
    if arguments.convert:
        for remark in write_dataset(splits, arguments.convert[1], arguments.convert[0]):
            print(printable(f"remark: {remark}"))
        count = sum(map(len, splits.values()))
        said = counted(count, "image", "images")
        print(printable(f"{said} in {', '.join(splits)} written to {arguments.convert[1]}"))
        return
    images = (path for dataset in splits.values() for path in dataset.image_paths)
    check_outputs({"--picture": arguments.picture}, (arguments.data, *images))
    text = describe_dataset(splits, arguments.num_proposals, compare_all=True)
    print("\n".join(map(printable, text.splitlines())))
    unreadable = draw_dataset(splits, Path(arguments.picture), arguments.seed)
    for problem in unreadable:
        print(printable(f"remark: {problem}"))
    print(printable(f"drawn: {arguments.picture}"))


if __name__ == "__main__":
    run(main, ValueError, OSError, ImportError)
