"""The head alone: all stages, with the learned proposals and a feature pyramid as inputs."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from parts.benchmarks.inference import score_errors
from parts.benchmarks.inputs import PUBLISHED, build_model, random_levels, without_gradients
from parts.benchmarks.own_process import MEMORY_KEPT, own_process, rows_on
from parts.measuring import Machine, Run, Table, compare, count_flops
from parts.published_style import run_stage
from sparse_rcnn.inference import compile_for_inference
from sparse_rcnn.nn import cast_weights, fold_first_stage

HEAD = (
    PUBLISHED,
    f"{PUBLISHED}{MEMORY_KEPT}",
    "as built",
    "first stage folded",
    f"first stage folded{MEMORY_KEPT}",
    f"first stage folded{MEMORY_KEPT}, bf16",
    f"compiled{MEMORY_KEPT}",
    f"compiled{MEMORY_KEPT}, bf16",
)


def build_head(machine: Machine, name: str, height: int, width: int, proposals: int) -> Run:
    """Proposals and head in one of the ways of `HEAD`. A call returns the logits of the last stage."""
    model: Any = build_model(machine, proposals).eval().requires_grad_(False)
    sizes = torch.tensor([[height, width]], device=machine.device)
    levels = random_levels(machine, 1, height, width)
    if name.startswith(PUBLISHED):

        def published() -> Tensor:
            boxes, features = model.proposals(sizes)
            for stage in model.head.stages:
                logits, boxes, features = run_stage(stage, levels, boxes, features)
            return logits

        return without_gradients(published)
    if name != "as built":
        model = fold_first_stage(model)
    if "bf16" in name:
        model = cast_weights(model, machine.device.type)

    def last_logits(levels: list[Tensor], sizes: Tensor) -> Tensor:
        boxes, features = model.proposals(sizes)
        logits: Tensor = model.head(levels, boxes, features).logits[-1]
        return logits

    kind = machine.device.type if "bf16" in name else None
    dtype = torch.bfloat16 if kind else torch.float32  # the type from a backbone in bf16
    channels_last = [level.to(dtype, memory_format=torch.channels_last) for level in levels]
    run_all: Callable[..., Tensor] = last_logits
    if "compiled" in name:
        run_all = compile_for_inference(last_logits, machine.device, dynamic=False)
    return without_gradients(run_all, channels_last, sizes, bf16=kind)


def measure_head(machine: Machine) -> list[Table]:
    """The table for 300 proposals."""
    case = (64, 96, 10) if machine.tiny else (480, 640, 300)
    runs = {name: own_process(build_head, machine, name, *case) for name in rows_on(machine, HEAD)}
    flops = count_flops(build_head(machine, "as built", *case))
    title = "The head alone, {}×{}, {} proposals, 6 stages".format(*case)
    return [compare(title, runs, machine, flops=flops, errors=score_errors(runs))]
