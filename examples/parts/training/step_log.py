"""The log of a step: losses, rates, memory."""

import argparse
import math
import time

from parts.training.memory import most_memory
from parts.training.run_log import RunLog
from parts.training.run_state import RunState
from parts.training.step_outcome import Outcome
from parts.training.training_step import matched_iou
from sparse_rcnn.data import Batch
from sparse_rcnn.loss import LossWeights
from sparse_rcnn.nn.head import Predictions


class StepLog:
    """Writes every --log-interval-th step to the run_log.

    Args:
        arguments: The options.
        run: What it says of itself is written, too; its processes add up the IoU of their matches.
        run_log: Where to.
        start: Step to begin after.
        weights: Of the loss, whose matches are looked at.
    """

    def __init__(
        self,
        arguments: argparse.Namespace,
        run: RunState,
        run_log: RunLog,
        start: int,
        weights: LossWeights,
    ) -> None:
        self.arguments = arguments
        self.run = run
        self.processes = run.processes
        self.run_log = run_log
        self.weights = weights
        self.compiling = arguments.compile
        self.restart(start)

    def restart(self, iteration: int) -> None:
        """Starts to measure the rate again, for example after an evaluation."""
        self._last, self._time = iteration, time.perf_counter()

    def note(
        self,
        iteration: int,
        outcome: Outcome,
        predictions: Predictions,
        batch: Batch,
        learning_rate: float,
    ) -> None:
        """Logs a step.

        Args:
            iteration: The number of the step, from 1.
            outcome: The outcome of the step.
            predictions: The predictions for `batch`.
            batch: The last batch of this process.
            learning_rate: The learning rate of the step.
        """
        arguments, run_log = self.arguments, self.run_log
        if self.compiling:
            waited = time.perf_counter() - self._time
            run_log.say(f"compiling with {self.compiling} and the first step took {waited:.0f} s")
            self.compiling = None
            self.restart(iteration)  # the rate is that of the steps after it
        run_log.progress.update()
        run_log.expect(arguments.iterations)
        is_due = iteration % arguments.log_interval == 0 or iteration == arguments.iterations
        if not (is_due and outcome.losses_are_finite):
            return
        *iou, count = self.processes.sum(matched_iou(predictions, batch, self.weights)).tolist()
        num_stages = len(iou)
        classification, l1, giou = (
            outcome.losses[1 + kind * num_stages : 1 + (kind + 1) * num_stages] for kind in range(3)
        )
        seconds = time.perf_counter() - self._time
        entry = {
            "iteration": iteration,
            "loss": outcome.losses[0],
            "classification": classification[-1],
            "l1": l1[-1],
            "giou": giou[-1],
            "gradient_norm": outcome.gradient_norm,
            "images_per_second": (iteration - self._last) * arguments.batch_size / seconds,
            "memory_gb": most_memory(self.processes.device) / 1e9,
            **self.run.figures(learning_rate),
            "classification_by_stage": classification,
            "l1_by_stage": l1,
            "giou_by_stage": giou,
            "matched_iou_by_stage": [value / count if count else math.nan for value in iou],
        }
        self.restart(iteration)
        run_log.record(entry, "train")
        run_log.show(entry)
