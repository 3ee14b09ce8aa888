"""Inference: ours and the published style, in each number format, eager and as CUDA graphs."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor

from parts.benchmarks.gpu.rows import FromTheFirst, growing
from parts.benchmarks.gpu.switches import AS_PUBLISHED, as_cuda_graph, compiled, for_inference, stages_on
from parts.benchmarks.inputs import PUBLISHED, build_model, random_images
from parts.measuring import Machine, Run, Table
from parts.published_style import PublishedStyle
from sparse_rcnn.nn import cast_weights, fold_first_stage, fold_norms

TITLE = "Inference, {} × {}×{}, {} proposals"
# Precisions of the published style (the first is its own code), then ours with their modes.
OF_PUBLISHED = (AS_PUBLISHED, "tf32", "bf16")
OURS = tuple((precision, how) for precision in ("float32", "tf32", "bf16") for how in ("eager", "CUDA graph"))
COMPILED = (("bf16", "compiled"), ("tf32", "compiled"))  # the target first
SIZES = ((1, 100), (16, 100), (8, 100), (1, 300), (16, 300), (8, 300))  # images and proposals


def build_ours(
    machine: Machine, detector: Any, batch: tuple[Tensor, Tensor], precision: str, how: str
) -> Run:
    """A forward pass of the folded model. A call returns the logits of the last stage."""
    if precision == "bf16":
        detector = cast_weights(detector, machine.device.type)
    call = compiled(detector, machine) if how == "compiled" else detector
    run = for_inference(lambda: call(*batch).logits[-1], precision, machine.device)
    return as_cuda_graph(run, machine.device) if how == "CUDA graph" else run


def inference_table(
    machine: Machine,
    count: int,
    proposals: int,
    ours: tuple[tuple[str, str], ...] = OURS,
    of_published: tuple[str, ...] = OF_PUBLISHED,
) -> Iterator[Table]:
    """The table for one size, after each row. The model is built once."""
    height, width = (64, 96) if machine.tiny else (800, 1344)
    count, proposals = (1, 10) if machine.tiny else (count, proposals)
    batch = random_images(machine, count, height, width)
    model = build_model(machine, proposals, stages_on(machine)).eval().requires_grad_(False)
    folded = fold_first_stage(fold_norms(model)).to(memory_format=torch.channels_last)

    def published(precision: str) -> Run:
        if precision != AS_PUBLISHED:  # the same format as ours, for this row and the next ones
            model.to(memory_format=torch.channels_last)
        detector = PublishedStyle(model)
        return for_inference(lambda: detector(list(batch[0]))[-1][0], precision, machine.device)

    builds: dict[str, Callable[[], Run]] = {
        f"{PUBLISHED}, {precision}": partial(published, precision)
        for precision in of_published[: 1 if machine.tiny else None]
    }
    for precision, how in ours[-1 if machine.tiny else None :]:
        builds[f"{precision}, {how}"] = partial(build_ours, machine, folded, batch, precision, how)
    difference = FromTheFirst()
    title = TITLE.format(count, height, width, proposals)
    note = "difference: the largest of a score from the first row's; peak GB: with the weights of all models"
    yield from growing(title, builds, machine, count, difference, note)


def measure_gpu_inference(machine: Machine) -> Iterator[Table]:
    """Tables for all sizes. The size of the target comes first, since time may end."""
    for size in SIZES[: 1 if machine.tiny else None]:
        yield from inference_table(machine, *size)


def measure_gpu_compiled(machine: Machine) -> Iterator[Table]:
    """Tables for one image and sixteen. Compiling takes a minute per row."""
    for size in SIZES[: 1 if machine.tiny else 2] if machine.compiled else ():
        yield from inference_table(machine, *size, COMPILED, OF_PUBLISHED[:1])
