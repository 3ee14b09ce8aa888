"""The cost of proposals and stages (the paper's Tables 7 and 8)."""

import torch

from parts.benchmarks.inputs import build_model, random_images, without_gradients
from parts.measuring import Machine, Table, compare, count_flops
from sparse_rcnn.nn import fold_first_stage, fold_norms


def measure_scaling(machine: Machine) -> list[Table]:
    """The table for several numbers of proposals and stages."""
    height, width = (64, 96) if machine.tiny else (800, 1216)
    images, sizes = random_images(machine, 1, height, width)
    variants = [(100, 6), (300, 6), (500, 6), (100, 1), (100, 2), (100, 3), (100, 12)]
    runs, figures = {}, {}
    for proposals, stages in variants:
        model = build_model(machine, proposals, stages).eval().requires_grad_(False)
        name = f"{proposals} proposals, {stages} stages"
        folded = fold_first_stage(fold_norms(model)).to(memory_format=torch.channels_last)
        runs[name] = without_gradients(folded, images, sizes)
        parameters = sum(parameter.numel() for parameter in model.parameters())
        figures[name] = {"parameters, M": parameters / 1e6, "GFLOP": count_flops(runs[name]) / 1e9}
    table = compare(f"Proposals and stages (Tables 7 and 8), 1 × {height}×{width}, eager", runs, machine, 1)
    for row in table.rows:
        row.update(figures[row[""]])
    return [table]
