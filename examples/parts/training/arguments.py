"""Reads the options of train.py, checks them, and adds what follows from them."""

import argparse
import math
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch

from parts.open_dataset import FILES
from parts.reader import at_most_one_a_core
from parts.training.defaults import MODEL_OPTIONS, PAPER, RECIPE_BATCH, RECIPE_GROUP, SHAPES
from parts.training.loggers.logger import missing_packages
from parts.training.options import flag_of, make_parser
from parts.training.recipe import Recipe, choose_recipe, choose_stages, recipe_table
from parts.training.training_state import usual_steps
from sparse_rcnn.nn import ModelConfig

PATHS = ("data", *FILES, "weights", "backbone_weights")
AT_LEAST_1 = (
    *("iterations", "batch_size", "accumulate", "group_size", "log_interval", "checkpoint_interval"),
    *("keep_checkpoints", "shapes_images", "eval_batch_size", "max_bad_batches"),
    *("max_size", "eval_size"),
)
AT_LEAST_0 = (
    *("workers", "warmup", "seed", "weight_decay", "eval_interval", "checkpoint_minutes", "patience"),
    "max_unreadable",
)
ABOVE_0 = ("learning_rate", "backbone_multiplier", "clip_norm", "minutes", "epochs")


def parse_arguments(
    description: str | None, argv: list[str] | None = None, look: bool = False
) -> argparse.Namespace:
    """The options as given, or from the recipe. "given" has the names of those that were given.

    Args:
        description: The description of the script.
        argv: The words. None for those of the command line.
        look: Whether the recipe follows from --data. Otherwise it is the paper's.
    """
    parser = make_parser(description)
    arguments = parser.parse_args(argv)
    arguments.data = arguments.data or arguments.train_annotations
    check_length(parser, arguments)
    check_ranges(parser, arguments)  # before data are read, and weights downloaded
    recipe = choose_recipe(arguments) if look and arguments.data else None
    add_recipe(arguments, recipe)
    check_combinations(parser, arguments)
    add_schedule(arguments)
    arguments.table = recipe_table(recipe, arguments) if recipe is not None and recipe.choices else ""
    return arguments


def add_recipe(arguments: argparse.Namespace, recipe: Recipe | None) -> None:
    """Adds the values of the recipe for all options that were not given."""
    values = PAPER if arguments.data else SHAPES
    arguments.given = {key for key in values if getattr(arguments, key) is not None}
    values = {**values, **({} if recipe is None else recipe.values())}
    if arguments.proposals == "learned" and not arguments.data:
        values["num_stages"] = choose_stages("learned").value
    for key, value in values.items():
        if key not in arguments.given:
            setattr(arguments, key, value)
    arguments.recipe = ("coco" if recipe is None else recipe.name) if arguments.data else "shapes"
    set_length(arguments, recipe)
    if "workers" not in arguments.given:
        arguments.workers = at_most_one_a_core(arguments.workers)
    if arguments.group_size is None:
        arguments.group_size = RECIPE_GROUP if arguments.batch_size % RECIPE_GROUP == 0 else 1


def check_ranges(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> None:
    """Refuses numbers that are too small or too large, and NaN. None is an option that was not given."""
    for names, bound, is_right in (
        (AT_LEAST_1, "at least 1", lambda value: value >= 1),
        (AT_LEAST_0, "at least 0", lambda value: value >= 0),
        (ABOVE_0, "above 0", lambda value: value > 0),
    ):
        for name in names:
            value = getattr(arguments, name)
            if value is not None and not is_right(value):
                parser.error(f"{flag_of(name)} must be {bound}, got {value}")
    for option in fields(ModelConfig):
        if option.name in MODEL_OPTIONS and "at_least" in option.metadata:
            least, most = option.metadata["at_least"], option.metadata["at_most"]
            value = getattr(arguments, option.name)
            if value is not None and not least <= value <= most:
                bound = f"at least {least}" if value < least else f"at most {most}"
                parser.error(f"{flag_of(option.name)} must be {bound}, got {value}")
    for name in ("learning_rate", "backbone_multiplier", "minutes", "epochs"):
        if math.isinf(getattr(arguments, name) or 0):
            parser.error(f"{flag_of(name)} must be finite")
    if arguments.sizes is not None and min(arguments.sizes) < 1:
        parser.error(f"--sizes must be at least 1, got {min(arguments.sizes)}")
    if arguments.ema is not None and not 0 <= arguments.ema < 1:
        parser.error(f"--ema must be at least 0 and less than 1, got {arguments.ema}")


def check_combinations(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> None:
    """Refuses options that do not go together."""
    width, heads = arguments.hidden_dim, arguments.num_heads
    if arguments.self_attention and not arguments.weights and width % heads != 0:
        parser.error(f"--hidden-dim {width} must be a multiple of --num-heads {heads}")
    images, group = arguments.batch_size, arguments.group_size
    if images % group != 0:
        parser.error(f"--batch-size {images} must be a multiple of --group-size {group}")
    if arguments.data is None and (arguments.crop or arguments.vertical_flip):
        parser.error("--crop and --vertical-flip need --data: the built-in shapes do not use them")
    if arguments.compile:
        backends = torch._dynamo.list_backends(exclude_tags=())
        if arguments.compile not in backends:
            parser.error(f"--compile must be one of {', '.join(backends)}, got {arguments.compile}")
    norm_is_known = "backbone_norm" in arguments.given or not arguments.weights
    if arguments.recompute_backbone and norm_is_known and arguments.backbone_norm == "batch":
        parser.error("--recompute-backbone needs --backbone-norm frozen or group")
    if arguments.weights and Path(arguments.output).resolve() in Path(arguments.weights).resolve().parents:
        parser.error("--weights must not lie in --output: give the new run a directory of its own")
    if missing := missing_packages(arguments.logger):
        parser.error(f"--logger {' '.join(missing)}: not installed. pip install {' '.join(missing)}")


def add_schedule(arguments: argparse.Namespace) -> None:
    """Adds what follows from the batch size and the number of steps: learning rate, warm-up, its steps."""
    if arguments.scale_learning_rate:
        arguments.learning_rate *= arguments.batch_size / RECIPE_BATCH
    if "warmup" not in arguments.given:  # the paper's 1000 are for 270000
        most = arguments.iterations // 10 if arguments.minutes is None else arguments.warmup
        arguments.warmup = min(arguments.warmup, most)
    if arguments.steps is None and arguments.minutes is None:  # with --minutes, the end is not known yet
        arguments.steps = usual_steps(arguments.iterations)


def check_length(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> None:
    """Refuses more than one length, and without data, a recipe and options of data."""
    given = [name for name in ("iterations", "epochs", "minutes") if getattr(arguments, name) is not None]
    if len(given) > 1:
        parser.error(f"{' and '.join(map(flag_of, given))} do not go together: each is the length of the run")
    if arguments.recipe != "auto" and not arguments.data:
        parser.error(
            f"--recipe {arguments.recipe} needs --data: the built-in shapes have a recipe of their own"
        )
    for name in (*FILES, "classes"):
        if not arguments.data and getattr(arguments, name):
            parser.error(f"{flag_of(name)} needs --data or --train-annotations: it is not for the shapes")


def set_length(arguments: argparse.Namespace, recipe: Recipe | None) -> None:
    """Sets the number of steps. With --minutes, it is set again when the model is built."""
    if arguments.minutes is not None:
        arguments.iterations = 1
    elif arguments.epochs is not None:
        images = arguments.shapes_images if recipe is None else recipe.num_images
        arguments.iterations = max(1, math.ceil(arguments.epochs * images / max(1, arguments.batch_size)))


def images_at_a_time(arguments: argparse.Namespace, world_size: int) -> int:
    """The number of images that a process takes at a time: its share of a step, divided by --accumulate.

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
    """All options as plain data, for checkpoints. Paths are absolute."""
    options = {key: value for key, value in vars(arguments).items() if key not in ("given", "table")}
    for key in PATHS:
        if options[key] not in (None, "imagenet", "none"):
            options[key] = str(Path(options[key]).resolve())
    return options
