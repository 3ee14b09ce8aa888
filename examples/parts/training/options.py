"""The options of train.py and their help."""

import argparse
from dataclasses import Field, fields
from typing import Any

import torch

from parts.command_line import CommandLine
from parts.open_dataset import DATA, add_data_options
from parts.training.defaults import MAX_UNREADABLE, MODEL_OPTIONS, PAPER, RECIPE_BATCH, RECIPE_GROUP, SHAPES
from parts.training.loggers.logger import LOGGERS
from parts.training.recipe import LIGHT_EPOCHS, LIGHT_STEPS, SMALL
from sparse_rcnn.data.loading.augmentation import AUGMENTATIONS
from sparse_rcnn.nn import ModelConfig


def make_parser(description: str | None) -> argparse.ArgumentParser:
    """All options. The value is None where the default depends on --data."""
    parser = CommandLine(description)
    _add_data(parser)
    _add_model(parser)
    training = parser.add_argument_group("training")
    _add_length(training)
    _add_optimizer(training)
    _add_step(training)
    _add_output(parser)
    return parser


def _add(group: Any, name: str, text: str, **options: Any) -> None:
    """An option whose default depends on whether --data is given."""
    key = name[2:].replace("-", "_")
    paper, shapes = PAPER[key], SHAPES[key]
    shown = f"{paper}; without --data: {shapes}" if paper != shapes else f"{paper}"
    group.add_argument(name, help=f"{text} ({shown})", **options)


def _add_data(parser: argparse.ArgumentParser) -> None:
    """The data set, and how its images are read and augmented."""
    data = parser.add_argument_group("data")
    data.add_argument("--data", metavar="PATH", help=f"{DATA}; if absent, the built-in shapes")
    data.add_argument(
        "--shapes-dir", default="data/shapes", metavar="DIR", help="folder of the shapes (data/shapes)"
    )
    data.add_argument(
        "--shapes-images",
        type=int,
        default=4000,
        help="training images of the shapes (4000). The validation set is as large, but at most 300",
    )
    add_data_options(data)
    sizes = "shortest sides for training, in pixels. Each image gets one of them at random"
    _add(data, "--sizes", sizes, type=int, nargs="+", metavar="PX")
    _add(data, "--max-size", "limit of the longest side", type=int, metavar="PX")
    _add(data, "--eval-size", "shortest side for evaluation", type=int, metavar="PX")
    augmentation = (
        "none: only sizes. light: also flips, as in the paper. strong: also colours, crops, zooming out and "
        "mosaics; the last tenth of the run is light. late: light for "
        f"{LIGHT_EPOCHS} epochs and {LIGHT_STEPS} steps, then strong"
    )
    _add(data, "--augmentation", augmentation, choices=AUGMENTATIONS)
    data.add_argument(
        "--crop",
        action="store_true",
        help="crop half of the images at random, as in the paper's recipe of 300 proposals",
    )
    flip = "also flip half of the images upside down. For images without a top, such as microscope images"
    _add(data, "--vertical-flip", flip, action=argparse.BooleanOptionalAction)
    _add(
        data,
        "--workers",
        "processes per device that read images. The default is at most one per core",
        type=int,
    )
    data.add_argument(
        "--max-unreadable",
        type=int,
        metavar="N",
        help="limit of training images that cannot be read. Other images replace them. The evaluation leaves "
        "unreadable validation images out and counts them. Without this option, a new run does not start "
        f"with an unreadable image, and the limit for later is {MAX_UNREADABLE}",
    )


def _add_model(parser: argparse.ArgumentParser) -> None:
    """The model and its weights."""
    model = parser.add_argument_group("model")
    ablation = parser.add_argument_group("ablations of the paper (see experiments.py)")
    for option in fields(ModelConfig):
        if option.name in MODEL_OPTIONS:
            group = ablation if option.metadata["ablation"] else model
            _add(group, flag_of(option.name), option.metadata["help"], **_kind(option))
    _add(model, "--backbone-weights", "imagenet (downloaded), a file in torchvision's layout, or none")
    model.add_argument(
        "--weights",
        metavar="CHECKPOINT",
        help="fine-tune from this checkpoint of this library, detectron2 or mmdetection. The model has its "
        "options, unless you give them. For other classes, the class layers are initialised again",
    )


def _add_length(training: Any) -> None:
    """The recipe, and the length of the run."""
    training.add_argument(
        "--recipe",
        choices=("auto", "small", "coco"),
        default="auto",
        help="defaults of the other options. small: they follow from the data and are printed with their "
        f"reasons. coco: the paper's. auto: small below {SMALL} training images, otherwise coco (auto)",
    )
    _add(training, "--iterations", "steps of the optimizer", type=int)
    training.add_argument(
        "--epochs", type=float, help="length of the run in epochs, in place of --iterations"
    )
    training.add_argument(
        "--minutes",
        type=float,
        help="length of the run in minutes, in place of --iterations. Schedule and evaluations follow. "
        "Only steps count. Start, evaluations and checkpoints take more time",
    )
    training.add_argument(
        "--clock",
        choices=("wall", "cpu"),
        default="wall",
        help="clock of --minutes. wall: wall time. cpu: CPU time of this process and its threads. A busy "
        "machine changes it less (wall)",
    )
    training.add_argument(
        "--patience",
        type=int,
        default=0,
        metavar="N",
        help="end the run after N evaluations in a row without a better AP. They count from the first AP "
        "above 0. 0: never (0)",
    )


def _add_optimizer(training: Any) -> None:
    """The batches, the optimizer and its schedule."""
    _add(training, "--batch-size", "images per step, over all devices", type=int)
    training.add_argument(
        "--accumulate",
        type=int,
        default=1,
        metavar="PARTS",
        help="a device takes its images of a step in this number of parts, one after the other. The step is "
        "the same, with less memory (1)",
    )
    training.add_argument(
        "--group-size",
        type=int,
        metavar="IMAGES",
        help="number of images of one orientation that stay together. A larger number needs less padding on "
        f"few devices, and puts other images into a step ({RECIPE_GROUP}, as in the paper's recipe on 8 "
        "devices; 1 if the batch size is odd)",
    )
    training.add_argument(
        "--pad-alike",
        action="store_true",
        help="pad all images of a step to the same size. This is slower, but the step is then the same for "
        "any number of processes and of --accumulate, up to rounding. Without it, each part is padded to its "
        "own largest image. This changes features near the padding, and the loss by a few percent. With "
        "--backbone-norm batch, the loss differs anyway, since each part has its own statistics",
    )
    _add(training, "--learning-rate", "learning rate of AdamW after the warm-up", type=float)
    multiplier = "the backbone's learning rate (the pyramid's not), as a share of --learning-rate"
    _add(training, "--backbone-multiplier", multiplier, type=float)
    targets = (
        "what the class score of a matched proposal learns. one: 1, as in the paper. iou: the overlap of its "
        "box with the object, so that the score says how well the box fits"
    )
    _add(training, "--class-targets", targets, choices=("one", "iou"))
    training.add_argument(
        "--scale-learning-rate",
        action="store_true",
        help=f"multiply the learning rate by batch size / {RECIPE_BATCH} (linear rule)",
    )
    training.add_argument("--weight-decay", type=float, default=1e-4, help="weight decay of AdamW (1e-4)")
    training.add_argument(
        "--clip-norm", type=float, default=1.0, help="limit of the norm of the gradient. inf: no limit (1.0)"
    )
    _add(training, "--schedule", "schedule of the learning rate", choices=("step", "cosine"))
    training.add_argument(
        "--steps",
        type=int,
        nargs="*",
        metavar="ITERATION",
        help="iterations at which the step schedule divides the learning rate by 10 (7/9 and 25/27 of all; "
        "in the paper, 210000 and 250000)",
    )
    warmup = "iterations of linear warm-up from 1/100 of the rate. The default is at most a tenth of all"
    _add(training, "--warmup", warmup, type=int)
    average = (
        "decay of an exponential moving average of the weights, for example 0.9998. It is lower at first: "
        "the mean age of the averaged weights is at most a third of the steps so far. 0: no average"
    )
    _add(training, "--ema", average, type=float, metavar="DECAY")


def _add_step(training: Any) -> None:
    """How a step is computed."""
    precision = (
        "precision of convolutions and matrix products. Matching and losses are always in float32. fp16 "
        "scales the loss. tf32 is for GPUs: float32, but products round their inputs to 10 bits"
    )
    _add(training, "--precision", precision, choices=("fp32", "tf32", "bf16", "fp16"))
    training.add_argument(
        "--compile",
        nargs="?",
        const="inductor",
        metavar="BACKEND",
        help="compile the step, from images to gradients, as one graph with this backend of torch.compile "
        "(inductor). This takes minutes before the first step",
    )
    training.add_argument(
        "--recompute-head",
        action="store_true",
        help="less memory, more time: the backward pass computes the head again",
    )
    training.add_argument(
        "--recompute-backbone",
        action="store_true",
        help="the same for the trunk of the backbone. Not with --backbone-norm batch: its statistics would "
        "count images twice",
    )
    training.add_argument(
        "--freed-memory",
        choices=("keep", "return"),
        default="keep",
        help="on a CPU. keep: the process keeps the memory of freed tensors for the next ones (faster). "
        "return: the system gets it at once (less memory) (keep)",
    )
    training.add_argument("--seed", type=int, default=0, help="seed of weights, order and augmentation (0)")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    training.add_argument("--device", default=device, help=f"device of PyTorch ({device})")
    training.add_argument(
        "--max-bad-batches",
        type=int,
        default=10,
        metavar="N",
        help="end the run after N bad steps in a row. A bad step has a loss or gradient that is not finite. "
        "It is skipped and written to bad_batches/ (10)",
    )


def _add_output(parser: argparse.ArgumentParser) -> None:
    """What a run writes, how often, and how it is resumed."""
    keeping = parser.add_argument_group("output")
    _add(
        keeping,
        "--output",
        "directory of the run. Several nodes must share it. With the recipe that follows from the data: "
        "runs/NAME, with the name of the data's folder",
        metavar="DIR",
    )
    keeping.add_argument(
        "--resume",
        action=argparse.BooleanOptionalAction,
        help="resume the run in --output, also with more --iterations, --epochs or --minutes. --no-resume: "
        "rename it and start a new run. Without either, an interrupted run of the same options is resumed. "
        "Any other is renamed",
    )
    keeping.add_argument(
        "--checkpoint-interval", type=int, default=5000, help="iterations between checkpoints (5000)"
    )
    keeping.add_argument(
        "--checkpoint-minutes",
        type=float,
        default=15.0,
        help="longest time between checkpoints, in minutes (15)",
    )
    keeping.add_argument("--keep-checkpoints", type=int, default=3, metavar="N", help="keep the last N (3)")
    keeping.add_argument(
        "--log-interval", type=int, default=20, help="iterations between lines of the log (20)"
    )
    _add(keeping, "--eval-interval", "iterations between evaluations. 0: only at the end", type=int)
    _add(keeping, "--eval-batch-size", "images per batch and device in the evaluation", type=int)
    keeping.add_argument(
        "--logger",
        choices=LOGGERS,
        nargs="+",
        default=[],
        help="send figures and pictures to these, too, besides TensorBoard. Their packages must be installed",
    )
    keeping.add_argument(
        "--dry-run",
        action="store_true",
        help="check data, weights, memory and disk. Run one step of the largest size and one batch of the "
        "evaluation. Write nothing",
    )


def flag_of(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _kind(option: "Field[Any]") -> dict[str, Any]:
    """How argparse reads an option of the model."""
    if "choices" in option.metadata:
        return {"choices": option.metadata["choices"], "metavar": "NAME"}
    if isinstance(option.default, bool):
        return {"action": argparse.BooleanOptionalAction}
    return {"type": int}
