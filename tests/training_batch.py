"""A training step of a small model on any device, with its batch and gradients."""

import torch
from parts.training.training_step import TrainingStep
from small_model import build_small_model, random_batch
from torch import Tensor


def small_step(device: torch.device, **changes) -> TrainingStep:
    """A new one with each call, with the same weights."""
    options = {"backbone": "resnet10", "backbone_norm": "frozen", **changes}
    return TrainingStep(build_small_model(**options).train()).to(device)


def training_batch(device: torch.device, count: int = 5) -> tuple[Tensor, ...]:
    """Two images of up to 64 x 96 and their targets: arguments of a :class:`TrainingStep`."""
    generator = torch.Generator().manual_seed(count)
    corners = 40 * torch.rand(2, count, 4, generator=generator)
    corners[..., 2:] += corners[..., :2] + 5
    labels = torch.randint(0, 3, (2, count), generator=generator)
    valid = torch.ones(2, count, dtype=torch.bool)
    images, sizes = random_batch(2, 64, 96)
    arguments = (images, sizes, corners, labels, valid, valid.sum().float())
    return tuple(argument.to(device) for argument in arguments)


def gradients_of(step, arguments) -> dict[str, Tensor]:
    """Those of the total loss, on the CPU, with the total itself."""
    step.zero_grad()
    total = step(*arguments).losses.total
    total.backward()
    found = {name: p.grad.detach() for name, p in step.named_parameters() if p.grad is not None}
    return {"total": total.detach().cpu(), **{name: gradient.cpu() for name, gradient in found.items()}}


def largest_difference(found: dict[str, Tensor], expected: dict[str, Tensor]) -> float:
    """The largest difference of two gradients, relative to the norm, or to 1/1000 of all norms if larger."""
    assert found.keys() == expected.keys()
    norm = torch.stack([gradient.norm() for gradient in expected.values()]).norm().item()
    return max(
        (found[name] - gradient).norm().item() / max(gradient.norm().item(), 1e-3 * norm)
        for name, gradient in expected.items()
    )
