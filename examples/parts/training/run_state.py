"""Everything that changes in a run, and what a checkpoint says of it."""

import argparse
import time
from typing import Any

import numpy
import torch
import torchvision
from torch import Tensor

import sparse_rcnn
from parts.training.arguments import settings
from parts.training.bad_batches import BadBatches
from parts.training.processes import Processes
from parts.training.random_states import random_states, restore_random_states
from parts.training.run_log import RunLog
from parts.training.step_outcome import Outcome
from parts.training.training_state import TrainingState
from parts.training.unreadable_images import UnreadableImages
from sparse_rcnn.data import Batch, DetectionDataset


class RunState:
    """Everything that changes in a run. A checkpoint needs it, so that the resumed run is exactly the same.

    Args:
        state: Weights, optimiser, schedule.
        bad_batches: The count of bad batches.
        unreadable: The images that could not be read.
        processes: The processes. Each has its own random generators.
    """

    def __init__(
        self,
        state: TrainingState,
        bad_batches: BadBatches,
        unreadable: UnreadableImages,
        processes: Processes,
    ) -> None:
        self.state = state
        self.bad_batches = bad_batches
        self.unreadable = unreadable
        self.processes = processes
        self.resumed_at = -1  # the iteration, if the run is resumed
        self.spent = 0.0  # seconds of all steps, by --clock
        self._began = time.perf_counter()

    @property
    def seconds(self) -> float:
        """The duration of the run in seconds, including the time before it was interrupted."""
        return time.perf_counter() - self._began

    def figures(self, learning_rate: float) -> dict[str, float]:
        """Figures of the run for the log."""
        counts = {
            "skipped": self.bad_batches.total,
            "unreadable": len(self.unreadable.known),
        }
        scaler = self.state.scaler
        scale = {"loss_scale": scaler.get_scale()} if scaler.is_enabled() else {}
        return {"learning_rate": learning_rate, **counts, **scale}

    def advance_or_skip(
        self, iteration: int, parts: list[Batch], own_losses: Tensor, outcome: Outcome, run_log: RunLog
    ) -> None:
        """Makes a good step and skips a bad one. A step is not bad if fp16 still looks for its scale."""
        if outcome.is_finite:
            self.state.advance()
            self.bad_batches.in_a_row = 0
            return
        looks_for_scale = outcome.losses_are_finite and self.state.looks_for_scale()
        self.state.skip()
        if not looks_for_scale:
            self.bad_batches.note(iteration, parts, own_losses, outcome, run_log)

    def load(self, checkpoint: dict[str, Any]) -> int:
        """Loads the content of a checkpoint, and returns its iteration."""
        self.state.load(checkpoint)
        self._began -= checkpoint.get("seconds", 0.0)
        self.spent = checkpoint.get("spent", 0.0)
        self.bad_batches.total = checkpoint.get("skipped", 0)
        self.bad_batches.in_a_row = checkpoint.get("skipped_in_a_row", 0)
        self.unreadable.known = set(checkpoint.get("unreadable", ()))
        states = checkpoint.get("random_states", [])
        if self.processes.rank < len(states):
            restore_random_states(states[self.processes.rank], self.processes.device)
        self.resumed_at = checkpoint["iteration"]
        return self.resumed_at

    def to_checkpoint(self) -> dict[str, Any]:
        """The entries for `load`, from all processes. The weights are those of rank 0."""
        return {
            **self.state.to_checkpoint(),
            "seconds": self.seconds,
            "spent": self.spent,
            "skipped": self.bad_batches.total,
            "skipped_in_a_row": self.bad_batches.in_a_row,
            "unreadable": sorted(self.unreadable.known),
            "random_states": self.processes.gather(random_states(self.processes.device)),
        }


def checkpoint_description(
    arguments: argparse.Namespace, config: dict[str, Any], dataset: DetectionDataset, digests: dict[str, str]
) -> dict[str, Any]:
    """The entries of a checkpoint that do not change in a run: its model, data, options and versions."""
    return {
        "config": config,
        "class_names": dataset.class_names,
        "category_ids": dataset.category_ids,
        "image_size": {"shortest_side": arguments.eval_size, "longest_side": arguments.max_size},
        "num_images": len(dataset),
        "data": digests,
        "arguments": settings(arguments),
        "versions": {
            "sparse_rcnn": sparse_rcnn.__version__,
            "torch": str(torch.__version__),
            "torchvision": str(torchvision.__version__),
            "numpy": numpy.__version__,
        },
    }
