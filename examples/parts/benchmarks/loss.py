"""Matching of all stages, losses and gradients."""

from collections.abc import Iterator

import torch
from einops import rearrange
from torch import Tensor

from parts.benchmarks.inputs import PUBLISHED, random_targets
from parts.benchmarks.peak_memory import peak_memory
from parts.measuring import Machine, Run, Table, compare
from parts.published_style import published_loss
from sparse_rcnn.loss import set_prediction_loss


def measure_loss(machine: Machine) -> Iterator[Table]:
    """Tables for several numbers of images, proposals and targets."""
    cases = [(2, 20, 5)] if machine.tiny else [(2, 100, 8), (16, 100, 8), (16, 300, 20), (16, 500, 60)]
    for case in cases:
        yield _loss_table(machine, *case)


def _loss_table(machine: Machine, batch: int, proposals: int, count: int) -> Table:
    names = (PUBLISHED, "set_prediction_loss")
    runs = {name: build_loss(machine, name, batch, proposals, count) for name in names}
    expected, found = (run() for run in runs.values())
    errors = {names[1]: f"{(found / expected - 1).abs().item():.0e}"}
    title = f"Loss and gradients, 6 stages, {batch} images, {proposals} proposals, {count} targets in each"
    table = compare(title, runs, machine, errors=errors, note="difference: of the total, relative")
    for row in table.rows:
        bytes_needed = peak_memory(build_loss, machine, row[""], batch, proposals, count)
        row["peak MB"] = None if bytes_needed is None else bytes_needed / 1e6
    return table


def build_loss(machine: Machine, name: str, batch: int, proposals: int, count: int) -> Run:
    """A call computes the loss of the predictions of all stages, and its gradients."""
    stages = 6
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(stages, batch, proposals, 80, generator=generator) - 4
    corners = random_targets(machine, batch, stages * proposals, 800, 1216)[0]
    boxes = rearrange(corners, "b (l n) xyxy -> l b n xyxy", l=stages).contiguous()
    target_boxes, labels, valid = random_targets(machine, batch, count, 800, 1216)
    sizes = torch.tensor([[800, 1216]] * batch, device=machine.device)
    whwh = sizes.flip(1).repeat(1, 2).float()
    leaves = (logits.to(machine.device).requires_grad_(), boxes.requires_grad_())

    def run() -> Tensor:
        if name == PUBLISHED:
            targets = list(zip(target_boxes, labels, strict=True))
            total = published_loss(list(zip(*leaves, strict=True)), targets, whwh)
        else:
            total = set_prediction_loss(
                leaves[0], leaves[1], target_boxes, labels, valid, sizes, valid.sum()
            ).total
        torch.autograd.grad(total, leaves)
        return total.detach()

    return run
