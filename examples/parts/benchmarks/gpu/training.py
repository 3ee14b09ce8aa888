"""The training step: ours and the published style."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor

from parts.benchmarks.gpu.rows import growing
from parts.benchmarks.gpu.switches import AS_PUBLISHED, autocast, number_formats, stages_on
from parts.benchmarks.inputs import PUBLISHED, build_model, random_images, random_targets
from parts.measuring import Machine, Run, Table
from parts.published_style import PublishedStyle, published_loss
from parts.training.training_step import TrainingStep, compile_step

TITLE = "Training step, {} × {}×{}, 100 proposals"
OF_PUBLISHED = (AS_PUBLISHED, "tf32", "bf16")
GRAPHS = "model as CUDA graphs"
OURS = (("bf16", "eager"), ("bf16", GRAPHS), ("tf32", "eager"), ("float32", "eager"))
COMPILED = (("bf16", "compiled"),)
TARGETS = 8  # in each image


class Inputs:
    """A batch and its targets."""

    def __init__(self, machine: Machine, count: int, height: int, width: int) -> None:
        self.images, self.sizes = random_images(machine, count, height, width)
        self.targets = random_targets(machine, count, TARGETS, height, width)
        self.num_targets = self.targets[2].sum().float()


def step_of(model: Any, losses: Callable[[], Tensor], precision: str, device: torch.device) -> Run:
    """A training step: loss, gradients, clipping and AdamW."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, 2.5e-5, weight_decay=1e-4, fused=True)

    def run() -> None:
        optimizer.zero_grad()
        with number_formats(precision):
            with autocast(precision, device):
                total = losses()
            total.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()

    return run


def build_published(machine: Machine, inputs: Inputs, precision: str) -> Run:
    """The step of the authors' trainer. Unless `as published`, it is channels-last, like ours."""
    model = build_model(machine, stages=stages_on(machine)).train()
    if precision != AS_PUBLISHED:
        model.to(memory_format=torch.channels_last)
    published = PublishedStyle(model)
    whwh = inputs.sizes.flip(1).repeat(1, 2).float()

    def losses() -> Tensor:
        targets = list(zip(*inputs.targets[:2], strict=True))
        return published_loss(published(list(inputs.images)), targets, whwh)

    return step_of(model, losses, precision, machine.device)


def build_ours(machine: Machine, inputs: Inputs, precision: str, how: str) -> Run:
    """The step of train.py: eager, compiled, or with the passes of the model as CUDA graphs."""
    model: Any = build_model(machine, stages=stages_on(machine)).train().to(memory_format=torch.channels_last)
    step: Any = TrainingStep(model)
    if how == "compiled":
        compile_step(step, "eager" if machine.tiny else "inductor")
    batch = (inputs.images, inputs.sizes)
    if how == GRAPHS and machine.device.type == "cuda":
        # The casts belong to the graphs, so no cast may be kept between calls.
        with number_formats(precision), autocast(precision, machine.device, cached=False):
            torch.cuda.make_graphed_callables(model, batch, allow_unused_input=True)  # in place

    def losses() -> Tensor:
        total: Tensor = step(*batch, *inputs.targets, inputs.num_targets).losses.total
        return total

    return step_of(model, losses, precision, machine.device)


def training_table(
    machine: Machine,
    count: int,
    ours: tuple[tuple[str, str], ...] = OURS,
    of_published: tuple[str, ...] = OF_PUBLISHED,
) -> Iterator[Table]:
    """The table for one number of images, after each row."""
    height, width = (64, 96) if machine.tiny else (800, 1344)
    count = 1 if machine.tiny else count
    inputs = Inputs(machine, count, height, width)
    builds: dict[str, Callable[[], Run]] = {
        f"{PUBLISHED}, {precision}": partial(build_published, machine, inputs, precision)
        for precision in of_published[: 1 if machine.tiny else None]
    }
    for precision, how in ours[: 2 if machine.tiny else None]:
        builds[f"{precision}, {how}"] = partial(build_ours, machine, inputs, precision, how)
    yield from growing(TITLE.format(count, height, width), builds, machine, count)


def measure_gpu_training(machine: Machine) -> Iterator[Table]:
    """Tables for sixteen images (the target) and for two."""
    for count in (16,) if machine.tiny else (16, 2):
        yield from training_table(machine, count)


def measure_gpu_compiled_training(machine: Machine) -> Iterator[Table]:
    """The table for sixteen images. Compiling takes minutes."""
    if machine.compiled:
        yield from training_table(machine, 16, COMPILED, OF_PUBLISHED[:1])
