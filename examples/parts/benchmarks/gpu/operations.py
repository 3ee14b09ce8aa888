"""RoIAlign, the head, and matching, beside the published style."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch

from parts.benchmarks.gpu.rows import growing, measure_row
from parts.benchmarks.gpu.switches import as_cuda_graph
from parts.benchmarks.head import build_head
from parts.benchmarks.inputs import PUBLISHED
from parts.benchmarks.loss import build_loss
from parts.benchmarks.roi import PER_LEVEL, build_roi
from parts.measuring import Machine, Run, Table

ROI_TITLE = "RoIAlign, {} × {}×{}, {} boxes, forward{}"
CHANNELS_LAST = "pyramid_roi_align, channels last"
COMPILED = f"{CHANNELS_LAST}, compiled"


def measure_gpu_roi(machine: Machine) -> Iterator[Table]:
    """Tables for six poolings of one pyramid, as in the six stages."""
    height, width = (64, 96) if machine.tiny else (800, 1344)
    for count, boxes in ((1, 10),) if machine.tiny else ((16, 100), (2, 100), (1, 100), (16, 300)):
        for backward in (True, False):
            names = [PER_LEVEL, CHANNELS_LAST]
            names += [f"{CHANNELS_LAST}, bf16"] if count == 16 and boxes == 100 else []
            yield from roi_table(machine, names, backward, height, width, boxes, count)
    if machine.compiled and not machine.tiny:  # last, since compiling takes a minute
        yield from roi_table(machine, [PER_LEVEL, COMPILED], True, height, width, 100, 16)


def roi_table(
    machine: Machine, names: list[str], backward: bool, height: int, width: int, boxes: int, count: int
) -> Iterator[Table]:
    """The table for these rows and sizes."""
    case = (backward, height, width, boxes, count)
    builds = {name: partial(build_roi, machine, name, *case) for name in names}
    title = ROI_TITLE.format(count, height, width, boxes, " and backward" * backward)
    yield from growing(title, builds, machine)


def measure_gpu_head(machine: Machine) -> Iterator[Table]:
    """Tables for the head alone, with one image."""
    height, width = (64, 96) if machine.tiny else (800, 1344)

    def recorded(name: str, case: tuple[int, int, int]) -> Run:
        return as_cuda_graph(build_head(machine, name, *case), machine.device)

    for proposals in (10,) if machine.tiny else (100, 300):
        case = (height, width, proposals)
        names = (PUBLISHED, "first stage folded", "first stage folded, bf16")
        builds: dict[str, Any] = {name: partial(build_head, machine, name, *case) for name in names}
        if machine.tiny:
            builds.clear()
        for name in names[-1 if machine.tiny else 1 :]:
            builds[f"{name}, CUDA graph"] = partial(recorded, name, case)
        yield from growing(f"The head alone, {height}×{width}, {proposals} proposals", builds, machine)


def measure_gpu_matching(machine: Machine) -> Iterator[Table]:
    """Tables for matching of all stages, losses and gradients."""
    cases = ((2, 20, 5),) if machine.tiny else ((2, 100, 8), (16, 100, 8), (16, 300, 20), (16, 500, 60))
    for count, proposals, targets in cases:
        case = (count, proposals, targets)
        names = (PUBLISHED, "set_prediction_loss")
        builds = {name: partial(build_loss, machine, name, *case) for name in names}
        title = f"Matching, losses and gradients, {count} images, {proposals} proposals, {targets} targets"
        yield from growing(title, builds, machine)


def measure_gpu_products(machine: Machine) -> Iterator[Table]:
    """The table for the limits of the card: matrix products, and copies in its memory."""
    size = 256 if machine.tiny else 8192
    a = torch.randn(size, size, device=machine.device)
    b = a.bfloat16()
    runs: dict[str, Run] = {
        "float32 product": lambda: a @ a,
        "bfloat16 product": lambda: b @ b,
        "copy of float32": lambda: a.clone(),
    }
    rows = [measure_row(name, lambda run=run: run, machine) for name, run in runs.items()]  # type: ignore[misc]
    for row in rows:
        if "ms" in row and "product" in row[""]:
            row["TFLOP/s"] = 2 * size**3 / row["ms"] / 1e9
        elif "ms" in row:
            row["TB/s"] = 8 * size**2 / row["ms"] / 1e9
    yield Table(f"The card: {size} × {size}", rows)
