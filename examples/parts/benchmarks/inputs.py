"""Inputs of all rows: models with random weights, realistic boxes, images and targets."""

import math
from collections.abc import Callable
from typing import Any

import torch
from einops import rearrange
from torch import Tensor

from parts.measuring import Machine, Run
from parts.published_style import STRIDES
from sparse_rcnn import SparseRCNN, build_sparse_rcnn
from sparse_rcnn.ops import cxcywh_to_xyxy

PUBLISHED = "published style"


def realistic_boxes(count: int) -> Tensor:
    """Boxes `[N, 4]`, cxcywh divided by the image size. Sides are log-uniform between 1/50 and 1."""
    generator = torch.Generator().manual_seed(count)
    side = torch.exp(math.log(0.02) * torch.rand(count, generator=generator))
    aspect = torch.exp(torch.rand(count, generator=generator) - 0.5)
    center = torch.rand(count, 2, generator=generator)
    size = torch.stack((side * aspect, side / aspect), dim=1).clamp(max=1.0)
    return torch.cat((center, size), dim=1)


def build_model(machine: Machine, proposals: int = 100, stages: int = 6) -> SparseRCNN:
    """The published model with random weights. Its stages do not move the boxes."""
    torch.manual_seed(0)
    model: Any = build_sparse_rcnn(num_proposals=proposals, num_stages=stages, backbone_weights=None)
    with torch.no_grad():
        model.proposals.boxes_norm_cxcywh.copy_(realistic_boxes(proposals))
        for stage in model.head.stages:
            stage.box_deltas.weight.zero_()
            stage.box_deltas.bias.zero_()
    built: SparseRCNN = model.to(machine.device)
    return built


def random_images(machine: Machine, batch: int, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Images and their sizes, the same in every process."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (batch, 3, height, width), dtype=torch.uint8, generator=generator)
    return images.to(machine.device), torch.tensor([[height, width]] * batch, device=machine.device)


def random_targets(
    machine: Machine, batch: int, count: int, height: int, width: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes, labels, and flags. All targets are valid."""
    scale = torch.tensor([width, height, width, height], dtype=torch.float32)
    corners = cxcywh_to_xyxy(realistic_boxes(batch * count)).clamp(0, 1) * scale
    corners = rearrange(corners, "(b m) xyxy -> b m xyxy", b=batch)
    labels = rearrange(torch.arange(batch * count) * 7 % 80, "(b m) -> b m", b=batch)
    valid = torch.ones(batch, count, dtype=torch.bool)
    return corners.to(machine.device), labels.to(machine.device), valid.to(machine.device)


def random_levels(machine: Machine, batch: int, height: int, width: int) -> list[Tensor]:
    """A feature pyramid, the same in every process."""
    generator = torch.Generator(machine.device).manual_seed(0)  # of 16 images, a CPU takes seconds
    shapes = [(batch, 256, height // stride, width // stride) for stride in STRIDES]
    return [torch.randn(shape, generator=generator, device=machine.device) for shape in shapes]


def without_gradients(call: Callable[..., Any], *inputs: Any, bf16: str | None = None) -> Run:
    """The call with these inputs, without gradients. `bf16` is the type of the device, for autocast."""

    def run() -> Any:
        with torch.no_grad(), torch.autocast(bf16 or "cpu", torch.bfloat16, enabled=bf16 is not None):
            return call(*inputs)

    return run
