"""RoIAlign over the pyramid for all six stages, including the flattening."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from parts.benchmarks.inputs import random_levels, random_targets, without_gradients
from parts.benchmarks.own_process import MEMORY_KEPT, own_process, rows_on
from parts.measuring import Machine, Run, Table, compare
from parts.published_style import pool_levels
from sparse_rcnn.ops import flatten_pyramid, pyramid_roi_align

PER_LEVEL = "torchvision's roi_align per level"
FORWARD = (
    PER_LEVEL,
    f"{PER_LEVEL}{MEMORY_KEPT}",
    "pyramid_roi_align",
    f"pyramid_roi_align{MEMORY_KEPT}",
    "pyramid_roi_align, channels last",
    f"pyramid_roi_align, channels last{MEMORY_KEPT}",
    f"pyramid_roi_align, channels last, compiled{MEMORY_KEPT}",
)
BACKWARD = FORWARD[:-1]


def build_roi(
    machine: Machine, name: str, backward: bool, height: int, width: int, count: int, images: int = 1
) -> Run:
    """Six poolings of one pyramid in one of the ways of `FORWARD`. Levels are in bf16 if the name says so."""
    levels = random_levels(machine, images, height, width)
    if "bf16" in name:
        levels = [level.bfloat16() for level in levels]
    if "channels last" in name:
        levels = [level.contiguous(memory_format=torch.channels_last) for level in levels]
    corners = random_targets(machine, images, count, height, width)[0]
    boxes = [corners + stage for stage in range(6)]  # different in every stage

    def per_level(features: list[Tensor]) -> list[Tensor]:
        return [pool_levels(features, stage_boxes, 7) for stage_boxes in boxes]

    def one_table(features: list[Tensor]) -> list[Tensor]:
        pyramid = flatten_pyramid(features)
        return [pyramid_roi_align(pyramid, stage_boxes) for stage_boxes in boxes]

    pool: Any = per_level if name.startswith(PER_LEVEL) else one_table
    if "compiled" in name:
        pool = torch.compile(pool, fullgraph=True, dynamic=False)
    if not backward:
        forward = without_gradients(pool, levels)
        return lambda: len(forward())
    leaves = [level.requires_grad_() for level in levels]
    with torch.no_grad():
        gradients = [torch.ones_like(pooled) for pooled in pool(levels)]

    def run() -> None:
        for leaf in leaves:
            leaf.grad = None
        torch.autograd.backward(pool(leaves), gradients)

    return run


def measure_roi(machine: Machine) -> Iterator[Table]:
    """Tables for 100 boxes of realistic sizes: forward pass, and forward and backward pass."""
    case = (64, 96, 10) if machine.tiny else (800, 1216, 100)
    yield _roi_table(machine, FORWARD, False, *case)
    yield _roi_table(machine, BACKWARD, True, *case)


def _roi_table(
    machine: Machine, names: tuple[str, ...], backward: bool, height: int, width: int, count: int
) -> Table:
    case = (backward, height, width, count)
    runs = {name: own_process(build_roi, machine, name, *case) for name in rows_on(machine, names)}
    title = f"RoIAlign, {height}×{width}, {count} boxes, six stages, forward{' and backward' * backward}"
    return compare(title, runs, machine)
