"""The options of train.py, with the paper's recipe and that of the built-in shapes as their defaults."""

import argparse
import math
from dataclasses import Field, fields
from pathlib import Path
from typing import Any

import torch

from parts.command_line import CommandLine
from parts.open_dataset import DATA, FILES, add_data_options
from parts.reader import at_most_one_a_core
from parts.training.recipe import SMALL, Recipe, choose_recipe, recipe_table
from sparse_rcnn.data.loading.augmentation import AUGMENTATIONS
from sparse_rcnn.nn import ModelConfig

# Options of the model, by name with the paper's defaults; the number of classes follows from the data.
MODEL_OPTIONS = {name: value for name, value in ModelConfig().to_dict().items() if name != "num_classes"}
# The paper's recipe (section 4), used with --data ...
PAPER: dict[str, Any] = {
    "output": "runs/coco",
    **MODEL_OPTIONS,
    "backbone_weights": "imagenet",
    "drop_degenerate_boxes": False,
    "vertical_flip": False,
    "augmentation": "light",
    "ema": 0.0,
    "batch_size": 16,
    "iterations": 270_000,
    "schedule": "step",
    "learning_rate": 2.5e-5,
    "warmup": 1000,
    "precision": "fp32",
    "sizes": list(range(480, 801, 32)),
    "max_size": 1333,
    "eval_size": 800,
    "eval_batch_size": 1,
    "eval_interval": 7500,
    "workers": 4,
}
# ... and what differs without it: small, from scratch, and a learning rate to match.
SHAPES: dict[str, Any] = {
    **PAPER,
    "output": "runs/shapes",
    "backbone": "resnet10",
    "backbone_norm": "batch",
    "backbone_weights": "none",
    "num_proposals": 12,
    "num_stages": 4,
    "hidden_dim": 64,
    "dynamic_dim": 16,
    "feedforward_dim": 256,
    "proposal_init": "grid",
    "fully_connected_dim": 256,
    "batch_size": 8,
    "iterations": 1300,
    "schedule": "cosine",
    "learning_rate": 8e-4,
    "warmup": 100,
    "sizes": [128],
    "max_size": 128,
    "eval_size": 128,
    "eval_batch_size": 8,
    "eval_interval": 650,
    "workers": 1,
}
# What may differ when a run goes on: it says where and how often, not what is computed ...
FREE = {
    *("data", *FILES, "shapes_dir", "output", "resume", "dry_run", "device", "workers", "keep_checkpoints"),
    *("accumulate", "recompute_head", "recompute_backbone", "freed_memory"),
    *("checkpoint_interval", "checkpoint_minutes", "log_interval", "eval_interval", "eval_batch_size"),
    *("max_bad_batches", "max_unreadable", "compile"),
}
# ... and what may, besides, if --resume says that it is meant.
LENGTH = {"iterations", "epochs", "minutes", "steps", "warmup", "patience"}
PATHS = ("data", *FILES, "weights", "backbone_weights")
AT_LEAST_1 = [
    *("iterations", "batch_size", "accumulate", "group_size", "log_interval", "checkpoint_interval"),
    *("keep_checkpoints", "shapes_images", "eval_batch_size", "max_bad_batches"),
    *("max_size", "eval_size"),
]
AT_LEAST_0 = [
    *("workers", "warmup", "seed", "weight_decay", "eval_interval", "checkpoint_minutes", "patience"),
]
ABOVE_0 = ["learning_rate", "clip_norm", "minutes", "epochs"]
RECIPE_BATCH = 16  # to which --learning-rate refers with --scale-learning-rate
RECIPE_GROUP = 2  # images of one orientation that stay together: what each of the paper's 8 devices had
MAX_UNREADABLE = 100


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
            _add(group, _flag(option.name), option.metadata["help"], **_kind(option))
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
    precision = (
        "of convolutions and matrix products; matching and losses are in float32 always, fp16 scales the "
        "loss, and tf32 is for a GPU: float32 whose products round their inputs to 10 bits"
    )
    _add(training, "--precision", precision, choices=("fp32", "tf32", "bf16", "fp16"))
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


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _kind(option: "Field[Any]") -> dict[str, Any]:
    """How argparse reads an option of the model."""
    if "choices" in option.metadata:
        return {"choices": option.metadata["choices"], "metavar": "NAME"}
    if isinstance(option.default, bool):
        return {"action": argparse.BooleanOptionalAction}
    return {"type": int}


def parse_arguments(
    description: str | None, argv: list[str] | None = None, look: bool = False
) -> argparse.Namespace:
    """The options as given, or from the recipe; "given" has the names of those that were given.

    Args:
        description: Of the script.
        argv: The words; of the command line unless given.
        look: Whether to look at --data for the recipe; else it is the paper's.
    """
    parser = make_parser(description)
    arguments = parser.parse_args(argv)
    arguments.data = arguments.data or arguments.train_annotations
    check_length(parser, arguments)
    recipe = choose_recipe(arguments) if look and arguments.data else None
    values = PAPER if arguments.data else SHAPES
    arguments.given = {key for key in values if getattr(arguments, key) is not None}
    values = {**values, **({} if recipe is None else recipe.values())}
    for key, value in values.items():
        if key not in arguments.given:
            setattr(arguments, key, value)
    arguments.recipe = ("coco" if recipe is None else recipe.name) if arguments.data else "shapes"
    set_length(arguments, recipe)
    if "workers" not in arguments.given:
        arguments.workers = at_most_one_a_core(arguments.workers)
    if arguments.group_size is None:
        arguments.group_size = RECIPE_GROUP if arguments.batch_size % RECIPE_GROUP == 0 else 1
    for name in AT_LEAST_1:
        if getattr(arguments, name) < 1:
            parser.error(f"--{name.replace('_', '-')} must be at least 1, got {getattr(arguments, name)}")
    for name in AT_LEAST_0:
        if getattr(arguments, name) is not None and not getattr(arguments, name) >= 0:  # NaN, too
            parser.error(f"--{name.replace('_', '-')} must be at least 0, got {getattr(arguments, name)}")
    for name in ABOVE_0:
        if getattr(arguments, name) is not None and not getattr(arguments, name) > 0:
            parser.error(f"--{name.replace('_', '-')} must be above 0, got {getattr(arguments, name)}")
    for option in fields(ModelConfig):
        least, most = option.metadata.get("at_least"), option.metadata.get("at_most")
        if option.name in MODEL_OPTIONS and least is not None:
            size = getattr(arguments, option.name)
            if size < least:
                parser.error(f"{_flag(option.name)} must be at least {least}, got {size}")
            if size > most:
                parser.error(f"{_flag(option.name)} must be at most {most}, got {size}")
    if math.isinf(arguments.learning_rate):
        parser.error("--learning-rate must be finite")
    width, heads = arguments.hidden_dim, arguments.num_heads
    if arguments.self_attention and not arguments.weights and width % heads != 0:
        parser.error(f"--hidden-dim {width} must be a multiple of --num-heads {heads}")
    if min(arguments.sizes) < 1:
        parser.error(f"--sizes must be at least 1, got {min(arguments.sizes)}")
    if not 0 <= arguments.ema < 1:
        parser.error(f"--ema must be at least 0 and less than 1, got {arguments.ema}")
    if arguments.batch_size % arguments.group_size != 0:
        parser.error(
            f"--batch-size {arguments.batch_size} is not made of --group-size {arguments.group_size}"
        )
    if arguments.max_unreadable is not None and arguments.max_unreadable < 0:
        parser.error(f"--max-unreadable must be at least 0, got {arguments.max_unreadable}")
    if arguments.data is None and (arguments.crop or arguments.vertical_flip):
        parser.error("--crop and --vertical-flip need --data: the built-in shapes are drawn as they are")
    if arguments.compile:
        backends = torch._dynamo.list_backends(exclude_tags=())
        if arguments.compile not in backends:
            parser.error(f"--compile must be one of {', '.join(backends)}, got {arguments.compile}")
    norm_is_known = "backbone_norm" in arguments.given or not arguments.weights
    batch_norm = norm_is_known and arguments.backbone_norm == "batch"
    if arguments.recompute_backbone and batch_norm:
        parser.error("--recompute-backbone needs --backbone-norm frozen or group")
    if arguments.weights and Path(arguments.output).resolve() in Path(arguments.weights).resolve().parents:
        parser.error("--weights must not lie in --output: give the new run a directory of its own")
    if arguments.scale_learning_rate:
        arguments.learning_rate *= arguments.batch_size / RECIPE_BATCH
    if "warmup" not in arguments.given:  # the paper's 1000 are for 270000
        most = arguments.iterations // 10 if arguments.minutes is None else arguments.warmup
        arguments.warmup = min(arguments.warmup, most)
    if arguments.steps is None:
        arguments.steps = [arguments.iterations * 7 // 9, arguments.iterations * 25 // 27]
    arguments.table = recipe_table(recipe, arguments) if recipe is not None and recipe.choices else ""
    return arguments


def check_length(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> None:
    """One length at most, and a recipe only where there is a choice."""
    given = [name for name in ("iterations", "epochs", "minutes") if getattr(arguments, name) is not None]
    if len(given) > 1:
        parser.error(f"{' and '.join(map(_flag, given))} do not go together: each is the length of the run")
    if arguments.recipe != "auto" and not arguments.data:
        parser.error(
            f"--recipe {arguments.recipe} needs --data: the built-in shapes have a recipe of their own"
        )


def set_length(arguments: argparse.Namespace, recipe: Recipe | None) -> None:
    """The number of steps; with --minutes, it is found when the model is there."""
    if arguments.minutes is not None:
        arguments.iterations = 1
    elif arguments.epochs is not None:
        images = arguments.shapes_images if recipe is None else recipe.num_images
        arguments.iterations = max(1, math.ceil(arguments.epochs * images / max(1, arguments.batch_size)))


def images_at_a_time(arguments: argparse.Namespace, world_size: int) -> int:
    """The images that a process takes at a time: its share of a step, in --accumulate parts.

    Raises:
        ValueError: If the step cannot be shared.
    """
    images, left = divmod(arguments.batch_size, world_size * arguments.accumulate)
    if left:
        raise ValueError(
            f"--batch-size {arguments.batch_size} cannot be shared by {world_size} processes with "
            f"--accumulate {arguments.accumulate}"
        )
    return images


def settings(arguments: argparse.Namespace) -> dict[str, Any]:
    """All options as plain data, for the checkpoint; paths mean the same in whatever directory."""
    options = {key: value for key, value in vars(arguments).items() if key not in ("given", "table")}
    for key in PATHS:
        if options[key] not in (None, "imagenet", "none"):
            options[key] = str(Path(options[key]).resolve())
    return options


def differences(before: dict[str, Any], arguments: argparse.Namespace) -> list[str]:
    """What was set otherwise in a run and changes what it computes: "--seed was 0, not 1"."""
    now = settings(arguments)
    # Options that were not there yet were as they are now if nothing is said of them.
    words = ["--data", before["data"]] if before.get("data") else []
    before = {**settings(parse_arguments(None, words)), **before}
    if arguments.resume:
        free = FREE | LENGTH
    elif before.get("iterations") != now["iterations"]:
        free = FREE | LENGTH - {"iterations"}  # the others follow from it
    else:
        free = FREE
    if arguments.minutes is not None:
        free = free | {"iterations", "steps"}  # which follow from the speed of the machine
    return [
        f"--{key.replace('_', '-')} was {before[key]}, not {now[key]}"
        for key in sorted(now.keys() - free)
        if before[key] != now[key]
    ]
