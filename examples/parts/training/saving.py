"""Writes the checkpoints of a run."""

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
from parts.training.checkpoints import CheckpointDirectory
from parts.training.exchange import Outcome
from parts.training.journal import Journal
from parts.training.processes import Processes
from parts.training.random_states import random_states, restore_random_states
from parts.training.state import TrainingState
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
        self.resumed_at = -1
        self.spent = 0.0  # seconds of steps, by --clock
        self._began = time.perf_counter()

    @property
    def seconds(self) -> float:
        """That the run has taken, with what it took before it was interrupted."""
        return time.perf_counter() - self._began

    def figures(self, learning_rate: float) -> dict[str, float]:
        """What the log says of the run besides the losses of a step."""
        counts = {
            "skipped": self.bad_batches.total,
            "unreadable": len(self.unreadable.known),
        }
        scaler = self.state.scaler
        scale = {"loss_scale": scaler.get_scale()} if scaler.is_enabled() else {}
        return {"learning_rate": learning_rate, **counts, **scale}

    def advance_or_skip(
        self, iteration: int, parts: list[Batch], own_losses: Tensor, outcome: Outcome, journal: Journal
    ) -> None:
        """Makes a good step and skips a bad one. A step that only looks for the scale of fp16 is not bad."""
        if outcome.is_finite:
            self.state.advance()
            self.bad_batches.in_a_row = 0
            return
        looks_for_scale = outcome.losses_are_finite and self.state.looks_for_scale()
        self.state.skip()
        if not looks_for_scale:
            self.bad_batches.note(iteration, parts, own_losses, outcome, journal)

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
        """The entries that `load` needs, from all processes. The weights are those of rank 0."""
        return {
            **self.state.to_checkpoint(),
            "seconds": self.seconds,
            "spent": self.spent,
            "skipped": self.bad_batches.total,
            "skipped_in_a_row": self.bad_batches.in_a_row,
            "unreadable": sorted(self.unreadable.known),
            "random_states": self.processes.gather(random_states(self.processes.device)),
        }


def description(
    arguments: argparse.Namespace, config: dict[str, Any], dataset: DetectionDataset
) -> dict[str, Any]:
    """What a checkpoint says of its model and its run, and what does not change in it."""
    return {
        "config": config,
        "class_names": dataset.class_names,
        "category_ids": dataset.category_ids,
        "image_size": {"shortest_side": arguments.eval_size, "longest_side": arguments.max_size},
        "num_images": len(dataset),
        "arguments": settings(arguments),
        "versions": {
            "sparse_rcnn": sparse_rcnn.__version__,
            "torch": str(torch.__version__),
            "torchvision": str(torchvision.__version__),
            "numpy": numpy.__version__,
        },
    }


class Saver:
    """Writes checkpoints when they are due.

    Args:
        arguments: The options.
        checkpoints: The checkpoints of the run.
        run: The entries that change.
        description: The entries that do not change.
        journal: Problems with writing are printed through it.

    Attributes:
        last: The iteration of the last checkpoint. -1 if there is none.
    """

    def __init__(
        self,
        arguments: argparse.Namespace,
        checkpoints: CheckpointDirectory,
        run: RunState,
        description: dict[str, Any],
        journal: Journal,
    ) -> None:
        self.checkpoints = checkpoints
        self.run = run
        self.description = description
        self.journal = journal
        self.last = run.resumed_at
        self._interval = arguments.checkpoint_interval
        self._patience = 60 * arguments.checkpoint_minutes
        self._time = time.perf_counter()

    def is_due(self, iteration: int) -> bool:
        """Whether it is after this iteration."""
        return iteration % self._interval == 0

    def is_overdue(self) -> bool:
        """Whether the last one is too old; rank 0 decides."""
        return self.run.processes.rank == 0 and time.perf_counter() - self._time > self._patience

    def save(self, iteration: int, needed: bool = False) -> None:
        """Writes a checkpoint, together with all processes.

        Raises:
            ValueError: If it is `needed` and cannot be written, such as on a full disk.
        """
        processes = self.run.processes
        saved = iteration
        checkpoint = {**self.run.to_checkpoint(), **self.description, "iteration": iteration}
        if processes.rank == 0:
            try:
                self.checkpoints.save(checkpoint, iteration)
            except OSError as error:
                problem = f"cannot write the checkpoint of iteration {iteration}: {error}"
                if needed:
                    raise ValueError(problem) from error
                self.journal.say(f"{problem}; training goes on")
                saved = -1
        self.last = processes.from_first(saved)
        self._time = time.perf_counter()

    def keep_best(self, iteration: int) -> None:
        """Names the checkpoint of this iteration best.pth if no evaluation before had as good an AP."""
        if (
            self.run.processes.rank == 0
            and self.last == iteration
            and self.journal.evaluations_since_best() == 0
        ):
            try:
                self.checkpoints.keep_best()
            except OSError as error:
                self.journal.say(f"cannot write best.pth of iteration {iteration}: {error}; training goes on")
