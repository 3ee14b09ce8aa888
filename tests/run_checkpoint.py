"""The checkpoint of a very small run of train.py, made without training."""

from argparse import Namespace
from typing import Any

import torch
from parts.training.arguments import settings
from parts.training.random_states import random_states
from parts.training.training_state import TrainingState

from sparse_rcnn import build_sparse_rcnn

TINY_MODEL = {
    "backbone": "resnet10",
    "backbone_norm": "batch",
    "num_classes": 1,
    "num_proposals": 3,
    "num_stages": 1,
    "hidden_dim": 8,
    "dynamic_dim": 2,
    "feedforward_dim": 4,
    "num_heads": 2,
    "pool_size": 2,
}


def run_checkpoint(arguments: Namespace, iteration: int = 3, step: bool = False) -> dict[str, Any]:
    """A checkpoint of a run on 10 images of one class "a", with moments of the optimiser after a step."""
    torch.manual_seed(0)
    model = build_sparse_rcnn(**TINY_MODEL, backbone_weights=None)
    state = TrainingState(model, arguments, torch.device("cpu"))
    if step:
        for parameter in state.parameters:
            parameter.grad = torch.full_like(parameter, 1e-3)
        state.advance()
    return {
        **state.to_checkpoint(),
        "config": model.config.to_dict(),
        "class_names": ["a"],
        "category_ids": [7],
        "image_size": {"shortest_side": 64, "longest_side": 96},
        "iteration": iteration,
        "seconds": 1.5,
        "num_images": 10,
        "data": {"train images": "aa", "train boxes": "bb"},
        "skipped": 0,
        "skipped_in_a_row": 0,
        "unreadable": [],
        "random_states": [random_states(torch.device("cpu"))],
        "arguments": settings(arguments),
        "versions": {"torch": str(torch.__version__)},
    }
