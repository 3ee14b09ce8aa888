"""Inference: from images to predictions, beside the published style and torchvision's detectors."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torchvision.models.detection import fasterrcnn_resnet50_fpn, retinanet_resnet50_fpn

from parts.benchmarks.inputs import PUBLISHED, build_model, random_images, without_gradients
from parts.benchmarks.own_process import MEMORY_KEPT, own_process, rows_on
from parts.measuring import Machine, Run, Table, compare, count_flops
from parts.published_style import PublishedStyle
from sparse_rcnn.inference import compile_for_inference
from sparse_rcnn.nn import cast_weights, fold_first_stage, fold_norms

TORCHVISION = {
    "torchvision Faster R-CNN": fasterrcnn_resnet50_fpn,
    "torchvision RetinaNet": retinanet_resnet50_fpn,
}
INFERENCE = (
    PUBLISHED,
    f"{PUBLISHED}{MEMORY_KEPT}",
    "as built",
    "folded, channels last",
    f"folded, channels last{MEMORY_KEPT}",
    f"folded, channels last{MEMORY_KEPT}, bf16",
    f"compiled for this size{MEMORY_KEPT}",
    f"compiled for this size{MEMORY_KEPT}, bf16",
    *TORCHVISION,
)


def build_inference(machine: Machine, name: str, batch: int, height: int, width: int, proposals: int) -> Run:
    """A forward pass in one of the ways of `INFERENCE`. A call returns the logits of the last stage."""
    images, sizes = random_images(machine, batch, height, width)
    if name in TORCHVISION:
        size = {"min_size": min(height, width), "max_size": 1344}
        other = TORCHVISION[name](weights=None, weights_backbone=None, **size)
        other = other.eval().requires_grad_(False).to(machine.device)
        floating = [image / 255 for image in images]
        detect = without_gradients(other, floating)
        return lambda: len(detect())
    model = build_model(machine, proposals).eval().requires_grad_(False)
    if name.startswith(PUBLISHED):
        published = PublishedStyle(model)
        return without_gradients(lambda: published(list(images))[-1][0])
    detector: Any = model
    if name != "as built":
        detector = fold_first_stage(fold_norms(model)).to(memory_format=torch.channels_last)
    if "bf16" in name:
        detector = cast_weights(detector, machine.device.type)
    if "compiled" in name:
        detector = compile_for_inference(detector, machine.device, dynamic=False)
    kind = machine.device.type if "bf16" in name else None
    return without_gradients(lambda: detector(images, sizes).logits[-1], bf16=kind)


def measure_inference(machine: Machine) -> Iterator[Table]:
    """Tables for the paper's size and a smaller one with more proposals. On a GPU, also for many images."""
    cases = [(1, 800, 1216, 100), (1, 480, 640, 300)]
    if machine.device.type == "cuda":
        cases = [(1, 800, 1344, 100), (16, 800, 1344, 100), (1, 480, 640, 300)]
    if machine.tiny:
        cases = [(1, 64, 96, 10)]
    for case in cases:
        yield _inference_table(machine, *case)


def _inference_table(machine: Machine, batch: int, height: int, width: int, proposals: int) -> Table:
    case = (batch, height, width, proposals)
    names = rows_on(machine, INFERENCE)
    runs = {name: own_process(build_inference, machine, name, *case) for name in names}
    flops = count_flops(build_inference(machine, "as built", *case))
    title = f"Inference, {batch} × {height}×{width}, {proposals} proposals"
    note = (
        "difference: the largest of a score; torchvision's models include the selection of detections, "
        "but have little to suppress with random weights"
    )
    return compare(title, runs, machine, batch, flops, score_errors(runs), note)


def score_errors(runs: dict[str, Run]) -> dict[str, str]:
    """The largest difference between the scores of a row and of the published style, for rows with logits."""
    expected: Tensor = runs[PUBLISHED]().sigmoid()
    errors = {}
    for name, run in runs.items():
        if not name.startswith(PUBLISHED) and name not in TORCHVISION:
            errors[name] = f"{(run().float().sigmoid() - expected).abs().max().item():.0e}"
    return errors
