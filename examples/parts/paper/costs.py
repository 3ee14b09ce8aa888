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
    """The cost of a detector on one image."""

    parameters: int
    flops: float  # of convolutions, matrix products and attention; two for a multiplication and an addition


def config_of(words: list[str], num_classes: int) -> ModelConfig:
    """The model options that train.py gets from its command line."""
    arguments: argparse.Namespace = parse_arguments(None, words)
    return model_config(arguments, num_classes, None)


def build_detector(config: ModelConfig) -> nn.Module:
    """The detector as it is deployed, with random weights."""
    torch.manual_seed(0)
    model = build_sparse_rcnn(config=config, backbone_weights=None).eval().requires_grad_(False)
    detections = min(100, config.num_proposals * config.num_classes)
    return EndToEndDetector(model, detections)


def count(build: Callable[[], nn.Module], size: tuple[int, int]) -> Cost:
    """Counts the cost of one image.

    Args:
        build: A function that makes the detector.
        size: Height and width of the image in pixels.

    Returns:
        The cost. It depends on the weights only in Faster R-CNN: they decide how many proposals remain.
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
    """The speed of detectors with random weights on one image.

    The detectors take turns. The result is the median of `repeats` rounds. The norms of all detectors but the
    DETRs are folded into their convolutions.
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
