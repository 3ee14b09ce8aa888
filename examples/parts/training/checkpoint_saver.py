"""Writes the checkpoints of a run when they are due."""

import argparse
import time
from typing import Any

from parts.training.checkpoint_files import CheckpointDirectory
from parts.training.run_log import RunLog
from parts.training.run_state import RunState


class CheckpointSaver:
    """Writes checkpoints when they are due.

    Args:
        arguments: The options.
        checkpoints: The checkpoints of the run.
        run: The entries that change.
        description: The entries that do not change.
        run_log: Problems with writing are printed through it.

    Attributes:
        last: The iteration of the last checkpoint. -1 if there is none.
    """

    def __init__(
        self,
        arguments: argparse.Namespace,
        checkpoints: CheckpointDirectory,
        run: RunState,
        description: dict[str, Any],
        run_log: RunLog,
    ) -> None:
        self.checkpoints = checkpoints
        self.run = run
        self.description = description
        self.run_log = run_log
        self.last = run.resumed_at
        self._interval = arguments.checkpoint_interval
        self._patience = 60 * arguments.checkpoint_minutes
        self._time = time.perf_counter()

    def is_due(self, iteration: int) -> bool:
        """Whether a checkpoint is due after this iteration."""
        return iteration % self._interval == 0

    def is_overdue(self) -> bool:
        """Whether the last checkpoint is too old. Rank 0 decides."""
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
                self.run_log.say(f"{problem}; training goes on")
                saved = -1
        self.last = processes.from_first(saved)
        self._time = time.perf_counter()

    def keep_best(self, iteration: int) -> None:
        """Keeps the checkpoint of this iteration as best.pth if its AP is the best so far."""
        if (
            self.run.processes.rank == 0
            and self.last == iteration
            and self.run_log.evaluations_since_best() == 0
        ):
            try:
                self.checkpoints.keep_best()
            except OSError as error:
                self.run_log.say(f"cannot write best.pth of iteration {iteration}: {error}; training goes on")
