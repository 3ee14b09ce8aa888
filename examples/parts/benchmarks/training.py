"""The training step, from uint8 images to updated parameters."""

from collections.abc import Iterator

import torch
from torch import Tensor

from parts.benchmarks.inputs import PUBLISHED, build_model, random_images, random_targets
from parts.benchmarks.own_process import MEMORY_KEPT, MEMORY_RETURNED, own_process, rows_on
from parts.benchmarks.peak_memory import peak_memory
from parts.measuring import Machine, Run, Table, compare, count_flops
from parts.published_style import PublishedStyle, published_loss
from parts.training.training_step import TrainingStep, compile_step, recompute_backbone, recompute_head

# All rows of a table are in memory at once. A model with its optimizer takes 2 GB or more.
TRAINING = {
    "float32": (
        PUBLISHED,
        f"{PUBLISHED}{MEMORY_KEPT}",
        "eager",
        f"eager{MEMORY_KEPT}",
        f"eager{MEMORY_KEPT}, head recomputed",
        f"eager{MEMORY_KEPT}, all recomputed",
        f"eager{MEMORY_RETURNED}, all recomputed",
    ),
    "bfloat16": (
        PUBLISHED,
        f"eager{MEMORY_KEPT}, bf16",
        f"eager{MEMORY_KEPT}, bf16, head recomputed",
        f"eager{MEMORY_KEPT}, bf16, all recomputed",
        f"eager{MEMORY_RETURNED}, bf16, all recomputed",
    ),
    "compiled": (
        PUBLISHED,
        f"eager{MEMORY_KEPT}",
        f"compiled for this size{MEMORY_KEPT}",
        f"compiled for this size{MEMORY_KEPT}, bf16",
    ),
}


def build_training_step(machine: Machine, name: str, batch: int, height: int, width: int) -> Run:
    """A training step in one of the ways of `TRAINING`: from images to updated parameters."""
    model = build_model(machine).train()
    images, sizes = random_images(machine, batch, height, width)
    boxes, labels, valid = random_targets(machine, batch, 8, height, width)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if name.startswith(PUBLISHED):
        published = PublishedStyle(model)
        optimizer = torch.optim.AdamW(parameters, 2.5e-5, weight_decay=1e-4)
        whwh = sizes.flip(1).repeat(1, 2).float()

        def losses() -> Tensor:
            total = published_loss(published(list(images)), list(zip(boxes, labels, strict=True)), whwh)
            optimizer.zero_grad()  # as the authors' trainer does: gradients of the last step stay until here
            return total
    else:
        model.to(memory_format=torch.channels_last)
        optimizer = torch.optim.AdamW(parameters, 2.5e-5, weight_decay=1e-4, fused=True)
        step = TrainingStep(model)
        if "recomputed" in name:
            recompute_head(model)
        if "all recomputed" in name:
            recompute_backbone(model)
        if "compiled" in name:
            compile_step(step)
        num_targets = valid.sum().float()

        def losses() -> Tensor:
            optimizer.zero_grad()  # as train.py
            with torch.autocast(machine.device.type, torch.bfloat16, enabled="bf16" in name):
                total: Tensor = step(images, sizes, boxes, labels, valid, num_targets).losses.total
            return total

    def run() -> None:
        losses().backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()

    return run


def measure_training(machine: Machine) -> Iterator[Table]:
    """The tables. Each row runs once for its memory. Then all rows of a table take turns."""
    cases = [(16, 800, 1344)] if machine.device.type == "cuda" else [(2, 480, 640), (1, 800, 1216)]
    if machine.tiny:
        cases = [(1, 64, 96)]
    kinds = [kind for kind in TRAINING if machine.compiled or kind != "compiled"]
    for case in cases:
        for kind in kinds if case == cases[0] else kinds[:2]:  # compiling takes minutes for each size
            yield _training_table(machine, kind, *case)


def _training_table(machine: Machine, kind: str, batch: int, height: int, width: int) -> Table:
    names = rows_on(machine, TRAINING[kind])
    size = (batch, height, width)
    memory = {name: peak_memory(build_training_step, machine, name, *size) for name in names}
    runs = {name: own_process(build_training_step, machine, name, *size) for name in names}
    flops = count_flops(build_training_step(machine, "eager", *size))
    title = f"Training step, {kind}, {batch} × {height}×{width}, 100 proposals"
    table = compare(title, runs, machine, batch, flops)
    for row in table.rows:
        bytes_needed = memory[row[""]]
        row["peak GB"] = None if bytes_needed is None else bytes_needed / 1e9
    return table
