"""Parameters, FLOPs and speed of a model."""

import argparse
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import nn

from parts.measuring import count_flops, take_turns
from parts.training.arguments import parse_arguments
from parts.training.model import model_config
from sparse_rcnn import build_sparse_rcnn
from sparse_rcnn.nn import EndToEndDetector, ModelConfig, fold_norms


class Cost(NamedTuple):
    """Of a detector on one image."""

    parameters: int
    flops: float  # of convolutions, matrix products and attention; two for a multiplication and an addition


def config_of(words: list[str], num_classes: int) -> ModelConfig:
    """The options of a model that train.py makes of its options."""
    arguments: argparse.Namespace = parse_arguments(None, words)
    return model_config(arguments, num_classes, None)


def build_detector(config: ModelConfig) -> nn.Module:
    """The detector as it is deployed, but for its weights."""
    torch.manual_seed(0)
    model = build_sparse_rcnn(config=config, backbone_weights=None).eval().requires_grad_(False)
    detections = min(100, config.num_proposals * config.num_classes)
    return EndToEndDetector(model, detections)


def count(build: Callable[[], nn.Module], size: tuple[int, int]) -> Cost:
    """Of one image of that size.

    Args:
        build: makes the detector.
        size: (height, width) in pixels.

    Returns:
        The cost, which depends on the weights in Faster R-CNN only: on how many proposals they leave.
    """
    detector = build()
    images = torch.zeros(1, 3, *size, dtype=torch.uint8)
    image_sizes = torch.tensor([size])
    with torch.no_grad():
        flops = count_flops(lambda: detector(images, image_sizes))
    return Cost(sum(parameter.numel() for parameter in detector.parameters()), flops)


def images_per_second(
    builds: dict[str, Callable[[], nn.Module]], size: tuple[int, int], repeats: int, device: torch.device
) -> dict[str, float]:
    """Detectors on one image of that size, by turns, median of `repeats` rounds; weights are random.

    Norms are folded into convolutions in all of them that have torchvision's, all but the DETRs.
    """
    images = torch.randint(0, 256, (1, 3, *size), dtype=torch.uint8, device=device)
    image_sizes = torch.tensor([size])

    def run_of(build: Callable[[], nn.Module]) -> Callable[[], Any]:
        detector = fold_norms(build()).to(device).to(memory_format=torch.channels_last)

        def run() -> None:
            with torch.no_grad():
                detector(images, image_sizes)

        return run

    seconds = take_turns({name: run_of(build) for name, build in builds.items()}, repeats, device)
    return {name: 1 / value for name, value in seconds.items()}
