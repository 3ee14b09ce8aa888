"""Options of the commands that load a detector: the size of images, precision, compiling, the device."""

import argparse

import torch

CHECKPOINT = "best.pth of a run of train.py, or its folder; or a checkpoint of detectron2 or mmdetection"


def add_size_options(parser: argparse.ArgumentParser) -> None:
    """Adds --size and --max-size."""
    parser.add_argument(
        "--size",
        type=int,
        metavar="PX",
        help="shortest side of the images (as stored in the checkpoint, or 800)",
    )
    parser.add_argument(
        "--max-size", type=int, metavar="PX", help="limit of the longest side (as stored, or 1333)"
    )


def add_speed_options(parser: argparse.ArgumentParser) -> None:
    """Adds --precision and --compile."""
    parser.add_argument(
        "--precision",
        choices=("fp32", "tf32", "bf16"),
        default="fp32",
        help="bf16: faster, scores differ by up to about 0.01; tf32, on a GPU: between the two (fp32)",
    )
    parser.add_argument(
        "--compile",
        action="store_true",
        help="compile when the first image comes, for images of any size: takes minutes",
    )


def add_device_option(parser: argparse.ArgumentParser) -> None:
    """Adds --device."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    parser.add_argument("--device", default=device, help=f"cpu, cuda, cuda:1 and so on ({device})")


def refuse_below_one(arguments: argparse.Namespace, *names: str) -> None:
    """Raises ValueError for the first of these options that is given and less than 1."""
    for name in names:
        value = getattr(arguments, name)
        if value is not None and value < 1:
            raise ValueError(f"--{name.replace('_', '-')} must be at least 1, got {value}")
