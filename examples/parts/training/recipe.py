"""The recipe of small data: each value follows from the data or the device, with its reason."""

import argparse
import math
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from parts.open_dataset import open_split
from parts.training.defaults import MODEL_OPTIONS
from sparse_rcnn.data import DetectionDataset
from sparse_rcnn.data.formats.counted import counted
from sparse_rcnn.nn.backbones.backbone import BACKBONES
from sparse_rcnn.nn.backbones.pretrained import IMAGENET_WEIGHTS, imagenet_state_dict

SMALL = 10_000  # training images from which on the recipe is the paper's
STEPS = 2400  # at least, unless told otherwise
EPOCHS = 12  # at least, too
LIGHT_EPOCHS = 12  # before --augmentation late gets strong
LIGHT_STEPS = 500  # at least, too
EVALUATIONS = 4  # of a run
SMALL_OBJECT, TINY_OBJECT = 16, 8  # pixels that the side of a small object is to have, and has to have
ON_CPU, ON_GPU = 320, 640  # bounds of the shortest side that follows from it; for tiny objects, large images
# may have twice that
MOST_PROPOSALS = 500
FEW = 10  # images that a run learns by heart, to see that all works
LARGE = 3  # megapixels of an image that takes about as long to read as to train with
PRETRAINED = "mobilenet_v2"


class Choice(NamedTuple):
    """A value of an option, and why it is that."""

    value: Any
    reason: str


class Recipe(NamedTuple):
    """What a run does unless its options say otherwise.

    Attributes:
        name: coco, small or shapes.
        choices: By option; only of small data.
        num_images: For training; None where nobody needs to know.
    """

    name: str
    choices: dict[str, Choice]
    num_images: int | None

    def values(self) -> dict[str, Any]:
        """The value of each option."""
        return {key: choice.value for key, choice in self.choices.items()}


def choose_recipe(arguments: argparse.Namespace) -> Recipe:
    """The recipe for --data: looks at the data unless --recipe coco makes that needless.

    Args:
        arguments: The options as they were given; None where they were not.
    """
    if arguments.recipe == "coco" and arguments.epochs is None:
        return Recipe("coco", {}, None)
    # Boxes without area and missing files are said, or refused, when the run opens its data.
    lenient = argparse.Namespace(**{**vars(arguments), "drop_degenerate_boxes": True})
    dataset = open_split(lenient, "train", None, allow_missing=True, quiet=True)
    small = arguments.recipe == "small" or (arguments.recipe == "auto" and len(dataset) < SMALL)
    if not small:
        crowds = {
            "num_proposals": Choice(500, "the authors' number for CrowdHuman, whose images have crowds")
        }
        return Recipe("coco", crowds if dataset.format_name == "CrowdHuman" else {}, len(dataset))
    if dataset.num_objects == 0:
        raise ValueError(
            f"{arguments.data or arguments.train_annotations}: the training set has no box to learn from"
        )
    return Recipe("small", small_recipe(dataset, arguments), len(dataset))


def small_recipe(dataset: DetectionDataset, arguments: argparse.Namespace) -> dict[str, Choice]:
    """Each option of the recipe with its reason."""
    batch, trunk = choose_batch(dataset, arguments.device), choose_trunk(arguments)
    steps = max(STEPS, math.ceil(EPOCHS * len(dataset) / (arguments.batch_size or batch.value)))
    return {
        "output": Choice(f"runs/{Path(arguments.data).resolve().name}", "the name of the data"),
        "drop_degenerate_boxes": Choice(True, "boxes without area teach nothing"),
        **choose_sizes(dataset, arguments.device, arguments.eval_size, arguments.max_size),
        "augmentation": Choice(
            "late",
            f"images as they are for {LIGHT_EPOCHS} epochs; a longer run then gets changed ones",
        ),
        "vertical_flip": choose_flip(dataset),
        **trunk,
        "proposals": Choice("dense", "from the image: learned ones need more data"),
        "num_proposals": choose_number(dataset),
        "proposal_init": Choice("grid", "learned proposals then see all of the image from the start"),
        "num_stages": choose_stages(arguments.proposals),
        "hidden_dim": Choice(96, "few images fill no more, and it is fast"),
        "dynamic_dim": Choice(24, "a quarter of --hidden-dim"),
        "feedforward_dim": Choice(384, "four times --hidden-dim"),
        "num_heads": Choice(4, "24 channels each"),
        "precision": choose_precision(arguments.device, len(dataset)),
        "batch_size": batch,
        "iterations": Choice(steps, f"{EPOCHS} epochs, but at least {STEPS} steps"),
        "schedule": Choice("cosine", "ends at 0, however long the run"),
        "learning_rate": choose_rate(arguments.proposals, arguments.weights),
        "class_targets": choose_targets(arguments.proposals, arguments.weights),
        "backbone_multiplier": choose_multiplier(trunk, arguments),
        "warmup": Choice(100, "a lower rate for the first steps, a tenth of all at most"),
        "ema": Choice(0.9998, "the average of about the last half of a run overfits less"),
        "eval_interval": Choice(None, f"{EVALUATIONS} evaluations in a run"),
        **choose_reading(dataset, arguments),
    }


def choose_sizes(
    dataset: DetectionDataset, device: str, eval_size: int | None = None, max_size: int | None = None
) -> dict[str, Choice]:
    """Sides of the images: as few pixels as the small objects and the device allow.

    Args:
        dataset: The images for training.
        device: A CPU is slower.
        eval_size: The shortest side that was given, which the rest follows from.
        max_size: The longest side that was given.
    """
    annotations, is_target = dataset.annotations, dataset.is_target
    sizes = np.array(dataset.image_sizes)
    shortest = sizes.min(axis=1)
    lengths = sizes.max(axis=1) / shortest  # times the shortest side
    images = annotations.image_indices[is_target]
    boxes = annotations.boxes[is_target].astype(np.float64)
    sides = np.sqrt((boxes[:, 2:] - boxes[:, :2]).prod(axis=1)) / shortest[images]
    small = max(float(np.percentile(sides, 10)), 1e-3)
    bound = ON_GPU if device.startswith("cuda") else ON_CPU
    own = int(np.median(shortest))
    most = min(max(TINY_OBJECT / small, bound), 2 * bound)
    wanted = min(max(SMALL_OBJECT / small, ON_CPU), most, own)
    # Smaller images are enlarged: cheaply to what small objects need, further only for tiny ones.
    least = int(max(min(SMALL_OBJECT / small, ON_CPU), min(TINY_OBJECT / small, bound)))
    size = eval_size or max(64, int(wanted / 32 + 0.5) * 32, math.ceil(least / 32) * 32)
    long = max(2.0, float(np.percentile(lengths, 90)))
    longest = max_size or max(min(round(size * long / 32) * 32, 4 * bound), 2 * size)
    is_long = longest < size * long - 32
    # As the model sees them: longer images than --max-size allows become smaller.
    seen = float(np.percentile(sides * np.minimum(size, longest / lengths[images]), 10))
    is_enlarged = seen > own * small
    reason = (
        f"{'enlarged: ' if is_enlarged else ''}small objects then have {seen:.0f} px in place of "
        f"{own * small:.0f} in the median image, whose shortest side is {own}"
    )
    if seen < TINY_OBJECT:
        in_tiles = is_long or own > size >= 2 * bound
        reason += f", which is few: {'cut the photos into tiles' if in_tiles else 'try a larger --eval-size'}"
    reason += f"; at most {bound} on this device" + (f", {2 * bound} for tiny ones" if own > bound else "")
    step = 32 if size > 128 else 8  # of small sizes, 32 would leave two, and half of all images at the lower
    around = [max(32, round(size * share / step) * step) for share in (0.7, 0.8, 0.9, 1.0, 1.1)]
    room = "longer images become smaller" if is_long else "room for most images"
    return {
        "eval_size": Choice(size, reason),
        "sizes": Choice(sorted({*around}), "0.7 to 1.1 of --eval-size: objects come in more sizes"),
        "max_size": Choice(longest, f"{longest / size:.1f} times --eval-size: {room}"),
    }


def choose_flip(dataset: DetectionDataset) -> Choice:
    """Whether images have an up: in those of microscopes and from above, objects are everywhere alike."""
    annotations, is_target = dataset.annotations, dataset.is_target
    images = annotations.image_indices[is_target]
    boxes = annotations.boxes[is_target]
    middle = (boxes[:, 1] + boxes[:, 3]) / 2 / np.array(dataset.image_sizes)[images, 0]
    many = np.median(np.bincount(images, minlength=len(dataset))) >= 5
    if many and abs(middle.mean() - 0.5) < 0.03 and middle.std() > 0.24:
        return Choice(
            True, "many objects, as many at the top as at the bottom: as from a microscope or from above"
        )
    return Choice(False, "objects are not everywhere alike: the images may have an up")


def choose_stages(proposals: str | None) -> Choice:
    """The stages of the head. Learned proposals start far from the objects and need more of them."""
    if proposals == "learned":
        return Choice(4, "learned proposals start far from the objects")
    return Choice(1, "proposals from the image are near the objects; a second stage learns slowly")


def choose_number(dataset: DetectionDataset) -> Choice:
    """Proposals, in tens: twice the objects of an image, and at least as many as an unusual image has.

    Each step of training takes longer with more proposals: with 500 in place of 60, 1.4 times as long.
    """
    counts = np.bincount(dataset.annotations.image_indices[dataset.is_target], minlength=len(dataset))
    most, usual = int(counts.max()), int(np.percentile(counts, 99, method="higher"))
    number = min(max(60, math.ceil(max(2 * usual, most) / 10) * 10), MOST_PROPOSALS)
    room = "with room" if usual < number else f"more than {number} would take too long"
    reason = f"an image has up to {counted(usual, 'object', 'objects')}: {room}"
    if most > usual:
        reason = f"of 100 images, 99 have at most {usual}: {room}; at least one has {most}"
    return Choice(number, reason)


def choose_trunk(arguments: argparse.Namespace) -> dict[str, Choice]:
    """The trunk, with what weights there are: those that were given, or those that can be had."""
    given, weights = arguments.backbone, arguments.backbone_weights
    if weights not in (None, "none", "imagenet"):
        named = [name for name in BACKBONES if name in Path(weights).name.lower()]
        name = given or (named or [PRETRAINED])[0]
        return {
            "backbone": Choice(name, "the name of --backbone-weights" if named else "small and fast"),
            "backbone_norm": Choice("frozen", "pretrained: statistics of few images would be worse"),
        }
    name = given or PRETRAINED
    missing = "--backbone-weights none" if weights == "none" else ""
    if arguments.weights:
        return {"backbone": Choice(name, "of --weights"), "backbone_weights": Choice("none", "of --weights")}
    if not missing and arguments.backbone_norm not in (None, "frozen"):
        missing = f"--backbone-norm {arguments.backbone_norm}"
    if not missing:
        missing = missing_weights(name)
    if not missing:
        return {
            "backbone": Choice(name, "small and fast"),
            "backbone_weights": Choice("imagenet", "pretrained: the largest gain where data are few"),
            "backbone_norm": Choice("frozen", "pretrained: statistics of few images would be worse"),
        }
    return {
        "backbone": Choice("resnet18", "small; from scratch, which needs more steps"),
        "backbone_weights": Choice("none", missing),
        "backbone_norm": Choice("group", "from scratch, a norm that trains and asks for no large batch"),
    }


def missing_weights(name: str) -> str:
    """Why ImageNet's weights cannot be had; empty if they can, and then they are on this disk."""
    if name not in IMAGENET_WEIGHTS:
        return f"there are no ImageNet weights for {name}"
    try:
        imagenet_state_dict(name)
    except OSError as error:
        return (
            f"ImageNet weights of {name} could not be downloaded ({error}); --backbone-weights FILE is better"
        )
    return ""


def choose_batch(dataset: DetectionDataset, device: str) -> Choice:
    """Images of a step: on a CPU, more and smaller steps, as long as a step has some objects."""
    objects = dataset.num_objects / len(dataset)
    if device.startswith("cuda"):
        return Choice(4, "a GPU works on several at a time")
    if objects >= 5:
        return Choice(2, f"an image has {objects:.1f} objects: two are enough for a step, and quick on a CPU")
    return Choice(4, f"an image has {objects:.1f} objects: two would be too few for a step")


def choose_rate(proposals: str | None, weights: str | None) -> Choice:
    """The learning rate, for batches of 2 to 4."""
    if weights and proposals is None:
        return Choice(2.5e-4, "of --weights, whose proposals may be learned")
    if proposals == "learned":
        return Choice(2.5e-4, "measured with learned proposals")
    return Choice(5e-4, "measured with proposals from the image")


def choose_targets(proposals: str | None, weights: str | None) -> Choice:
    """What class scores learn."""
    if proposals == "learned" or (weights and proposals is None):
        return Choice("one", "measured with learned proposals")
    return Choice("iou", "measured with proposals from the image: the score says how well the box fits")


def choose_multiplier(trunk: dict[str, Choice], arguments: argparse.Namespace) -> Choice:
    """The share of the learning rate that the backbone gets."""
    chosen = trunk.get("backbone_weights")
    weights = arguments.backbone_weights or (chosen.value if chosen else "none")
    if weights == "none" and not arguments.weights:
        return Choice(1.0, "from scratch: it learns as fast as the rest")
    return Choice(0.3, "pretrained: larger steps can destroy what it knows")


def choose_precision(device: str, num_images: int) -> Choice:
    """bfloat16 where it saves time: on GPUs that have it, and on CPUs where a short measurement says so."""
    if num_images < FEW:
        return Choice("fp32", f"fewer than {FEW} images are learned to the pixel, and bfloat16 rounds boxes")
    if device.startswith("cuda"):
        has_it = torch.cuda.is_bf16_supported(including_emulation=False)
        return Choice(
            *(("bf16", "this GPU computes in it") if has_it else ("fp32", "this GPU has no bfloat16"))
        )
    if device != "cpu":
        return Choice("fp32", f"bfloat16 was not tried on {device}")
    times = [min(_seconds_of_a_layer(dtype) for _ in range(5)) for dtype in (torch.float32, torch.bfloat16)]
    gain = times[0] / times[1]
    if gain > 1.2:
        return Choice("bf16", f"a convolution takes {gain:.1f} times as long in float32 on this CPU")
    return Choice("fp32", f"bfloat16 is no faster on this CPU: {gain:.1f} times the speed")


def _seconds_of_a_layer(dtype: torch.dtype) -> float:
    """Forward and backward pass of a convolution of the pyramid, once."""
    layer = torch.nn.Conv2d(96, 96, 3, padding=1).to(dtype).to(memory_format=torch.channels_last)
    image = torch.ones(1, 96, 40, 56, dtype=dtype).to(memory_format=torch.channels_last)
    began = time.process_time()
    layer(image).sum().backward()
    return time.process_time() - began


def choose_reading(dataset: DetectionDataset, arguments: argparse.Namespace) -> dict[str, Choice]:
    """How images are read and evaluated."""
    gpu = arguments.device.startswith("cuda")
    megapixels = float(np.median(np.array(dataset.image_sizes).prod(axis=1))) / 1e6
    if arguments.clock == "cpu":
        workers = Choice(0, "--clock cpu counts this process alone: so it reads its images itself")
    elif gpu:
        workers = Choice(4, "the GPU does not wait for images then")
    elif megapixels > LARGE:
        workers = Choice(4, f"images of {megapixels:.0f} megapixels are read slowly; at most one a core")
    else:
        workers = Choice(1, "small images are read fast")
    return {
        "workers": workers,
        "eval_batch_size": Choice(8 if gpu else 1, "faster on a GPU" if gpu else "without padding"),
    }


def recipe_table(recipe: Recipe, arguments: argparse.Namespace) -> str:
    """The recipe for a reader: a line for each option."""
    rows = []
    for key, (_, reason) in recipe.choices.items():
        value = getattr(arguments, key)
        shown = " ".join(map(str, value)) if isinstance(value, list) else "-" if value is None else str(value)
        if key in arguments.given:
            reason = "given"
        elif arguments.weights and key in MODEL_OPTIONS:
            shown, reason = "-", "of --weights"
        elif key == "iterations" and (arguments.minutes or arguments.epochs):
            given = "minutes" if arguments.minutes else "epochs"
            shown = "-" if arguments.minutes else shown
            reason = f"follows from --{given} {getattr(arguments, given):g}"
        rows.append((f"--{key.replace('_', '-')}", shown, reason))
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    lines = [f"  {name:<{widths[0]}}  {value:<{widths[1]}}  {reason}" for name, value, reason in rows]
    if recipe.name == "small" and arguments.backbone_weights == "none" and not arguments.weights:
        lines.append(
            "remark: without pretrained weights, the trunk learns from scratch. That takes many more steps, "
            "and AP stays lower. --backbone-weights FILE gives them"
        )
    name = "recipe for small data" if recipe.name == "small" else "the paper's recipe, but"
    return "\n".join([f"{name}: {recipe.num_images} training images", *lines])
