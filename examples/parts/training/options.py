"""The options of train.py and their help."""

import argparse
from dataclasses import Field, fields
from typing import Any

import torch

from parts.command_line import CommandLine
from parts.open_dataset import DATA, add_data_options
from parts.training.defaults import MAX_UNREADABLE, MODEL_OPTIONS, PAPER, RECIPE_BATCH, RECIPE_GROUP, SHAPES
from parts.training.recipe import SMALL
from sparse_rcnn.data.loading.augmentation import AUGMENTATIONS
from sparse_rcnn.nn import ModelConfig


def make_parser(description: str | None) -> argparse.ArgumentParser:
    """All options; None where the default depends on whether --data is given."""
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
    """What to train on, and how images are read and changed."""
    data = parser.add_argument_group("data")
    data.add_argument("--data", metavar="PATH", help=f"{DATA}; if absent, the built-in shapes")
    data.add_argument("--shapes-dir", default="data/shapes", metavar="DIR", help="where the shapes are kept")
    data.add_argument(
        "--shapes-images",
        type=int,
        default=4000,
        help="training images of the shapes (4000); as many for validation, but at most 300",
    )
    add_data_options(data)
    sizes = "shortest sides in pixels that training draws from"
    _add(data, "--sizes", sizes, type=int, nargs="+", metavar="PX")
    _add(data, "--max-size", "bound of the longest side", type=int, metavar="PX")
    _add(data, "--eval-size", "shortest side for evaluation", type=int, metavar="PX")
    augmentation = (
        "none: sizes alone; light, as published: flips; strong: colours, crops, zooming out and mosaics, "
        "too, but not in the last tenth of the run"
    )
    _add(data, "--augmentation", augmentation, choices=AUGMENTATIONS)
    data.add_argument(
        "--crop", action="store_true", help="random crops half of the time (300-proposal recipe)"
    )
    flip = "flip upside down, too, half of the time: for images without an up, as of microscopes"
    _add(data, "--vertical-flip", flip, action=argparse.BooleanOptionalAction)
    _add(
        data, "--workers", "processes per device that read images; unless given, one a core at most", type=int
    )
    data.add_argument(
        "--max-unreadable",
        type=int,
        metavar="N",
        help=f"how many training images that cannot be read may be replaced by others ({MAX_UNREADABLE}). "
        "Validation images that cannot be read are left out of the evaluation, and counted. "
        "A new run refuses to start with any such image, unless this is given",
    )


def _add_model(parser: argparse.ArgumentParser) -> None:
    """The options of the model, and its weights."""
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
        help="fine-tune from this file of this library, detectron2 or mmdetection; sets the model's options "
        "unless they are given; with other classes, class layers start anew",
    )


def _add_length(training: Any) -> None:
    """The recipe, and how long a run is."""
    training.add_argument(
        "--recipe",
        choices=("auto", "small", "coco"),
        default="auto",
        help="all that is not given: small, made for the data and printed with reasons; coco, the paper's; "
        f"auto: small for data of fewer than {SMALL} training images, coco for others (auto)",
    )
    _add(training, "--iterations", "optimiser steps", type=int)
    training.add_argument(
        "--epochs", type=float, help="the length of the run in epochs, in place of --iterations"
    )
    training.add_argument(
        "--minutes",
        type=float,
        help="the length of the run in minutes of its steps, in place of --iterations: schedule and "
        "evaluations follow from it; start, evaluations and checkpoints come on top",
    )
    training.add_argument(
        "--clock",
        choices=("wall", "cpu"),
        default="wall",
        help="what --minutes counts: wall time, or CPU time of this process with all its threads, which a "
        "busy machine changes less (wall)",
    )
    training.add_argument(
        "--patience",
        type=int,
        default=0,
        metavar="N",
        help="end the run after N evaluations in a row that were no better than one before; 0: never (0)",
    )


def _add_optimizer(training: Any) -> None:
    """Batches, the optimizer and its schedule."""
    _add(training, "--batch-size", "images per step over all devices", type=int)
    training.add_argument(
        "--accumulate",
        type=int,
        default=1,
        metavar="PARTS",
        help="parts in which a device takes its share of a step, one after the other: the same step in less "
        "memory (1)",
    )
    training.add_argument(
        "--group-size",
        type=int,
        metavar="IMAGES",
        help="images of one orientation that stay together; more means less padding on few devices, and "
        f"other images in a step ({RECIPE_GROUP}, as the recipe has on 8 devices; 1 if the batch is odd)",
    )
    training.add_argument(
        "--pad-alike",
        action="store_true",
        help="pad all images of a step to the same size, which is slower. Then any number of processes and "
        "of --accumulate makes the same step, up to rounding. Without it, each part is padded to its own "
        "largest image, which changes what the backbone finds near the padding: the loss differs by a few "
        "percent. With --backbone-norm batch it differs in any case: each part has its own statistics",
    )
    _add(training, "--learning-rate", "of AdamW, after warm-up", type=float)
    training.add_argument(
        "--scale-learning-rate",
        action="store_true",
        help=f"multiply it by the batch size over {RECIPE_BATCH}, the linear rule",
    )
    training.add_argument("--weight-decay", type=float, default=1e-4, help="of AdamW (1e-4)")
    training.add_argument(
        "--clip-norm", type=float, default=1.0, help="bound of the gradient's norm (1.0); inf: none"
    )
    _add(training, "--schedule", "step or cosine", choices=("step", "cosine"))
    training.add_argument(
        "--steps",
        type=int,
        nargs="*",
        metavar="ITERATION",
        help="where the step schedule divides the learning rate by 10 (at 7/9 and 25/27 of the iterations, "
        "the paper's 210000 and 250000)",
    )
    warmup = "iterations of linear warm-up from a hundredth of the rate; unless given, a tenth of all at most"
    _add(training, "--warmup", warmup, type=int)
    average = "keep an exponential moving average of the weights, such as 0.9998, and evaluate that; 0: none"
    _add(training, "--ema", average, type=float, metavar="DECAY")


def _add_step(training: Any) -> None:
    """How a step is computed."""
    training.add_argument(
        "--precision",
        choices=("fp32", "tf32", "bf16", "fp16"),
        default="fp32",
        help="of convolutions and matrix products; matching and losses are in float32 always, fp16 "
        "scales the loss, and tf32 is for a GPU: float32 whose products round their inputs to 10 bits (fp32)",
    )
    training.add_argument(
        "--compile",
        nargs="?",
        const="inductor",
        metavar="BACKEND",
        help="compile the step, images to losses and their gradients, as one graph with this backend of "
        "torch.compile (inductor); takes minutes before the first step",
    )
    training.add_argument(
        "--recompute-head",
        action="store_true",
        help="keep less of the head for the backward pass and compute it again: less memory, more time",
    )
    training.add_argument(
        "--recompute-backbone",
        action="store_true",
        help="the same for the backbone's trunk; not with batch norms, which would count images twice",
    )
    training.add_argument(
        "--freed-memory",
        choices=("keep", "return"),
        default="keep",
        help="on a CPU: keep freed tensors' memory for the next ones, which is faster, or return it to the "
        "system at once, which needs less (keep)",
    )
    training.add_argument("--seed", type=int, default=0, help="of weights, order and augmentation (0)")
    training.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    training.add_argument(
        "--max-bad-batches",
        type=int,
        default=10,
        metavar="N",
        help="steps in a row whose loss or gradient is not finite that end the run; they are skipped, and "
        "written to bad_batches/ (10)",
    )


def _add_output(parser: argparse.ArgumentParser) -> None:
    """What a run writes, how often, and how it goes on."""
    keeping = parser.add_argument_group("output")
    _add(keeping, "--output", "directory; several nodes must share it", metavar="DIR")
    keeping.add_argument(
        "--resume",
        action=argparse.BooleanOptionalAction,
        help="go on with the run in --output, also with more --iterations; --no-resume: set it aside and "
        "start anew. Without either, an interrupted run of the same options goes on, any other is set aside",
    )
    keeping.add_argument("--checkpoint-interval", type=int, default=5000, help="iterations (5000)")
    keeping.add_argument(
        "--checkpoint-minutes", type=float, default=15.0, help="and at the latest after these minutes (15)"
    )
    keeping.add_argument("--keep-checkpoints", type=int, default=3, metavar="N", help="the last N (3)")
    keeping.add_argument("--log-interval", type=int, default=20, help="iterations (20)")
    _add(keeping, "--eval-interval", "iterations between evaluations; 0: only at the end", type=int)
    _add(keeping, "--eval-batch-size", "images per batch and device in evaluation", type=int)
    keeping.add_argument(
        "--dry-run",
        action="store_true",
        help="check data, weights, memory and disk, run one step of the largest size and one evaluation "
        "batch, write nothing, and end",
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
