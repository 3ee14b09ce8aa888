"""Steps whose loss or gradient is not finite. They are skipped and logged. Too many in a row end the run.

All processes know the same sums, so all of them decide the same.
"""

import contextlib
import io
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from parts.training.processes import Processes
from parts.training.run_log import RunLog
from parts.training.step_outcome import Outcome
from sparse_rcnn.data import Batch

MOST_DUMPS = 10  # per process; a batch of 16 images takes 50 MB


class BadBatches:
    """Counts bad steps.

    Args:
        directory: The directory to which bad batches are written.
        limit: The number of bad steps in a row that ends the run.
        processes: The processes of the run. All of them learn the ids of the images.
    """

    def __init__(self, directory: Path, limit: int, processes: Processes) -> None:
        self.directory = directory
        self.limit = limit
        self.processes = processes
        self.total = 0
        self.in_a_row = 0

    def note(
        self,
        iteration: int,
        batches: list[Batch],
        own_losses: Tensor,
        outcome: Outcome,
        run_log: RunLog,
    ) -> None:
        """Counts a bad step and prints a line. Ends the run if there are too many in a row."""
        entry = self.skip(iteration, batches, own_losses, outcome.gradient_norm)
        run_log.record(entry, "train")
        run_log.say(
            f"iteration {iteration}: skipped, the loss is {outcome.losses[0]} and the gradient's norm "
            f"{outcome.gradient_norm}; image ids {entry['image_ids']}"
        )
        self.raise_if_hopeless(iteration, entry["image_ids"])

    def skip(
        self, iteration: int, batches: list[Batch], own_losses: Tensor, gradient_norm: float
    ) -> dict[str, Any]:
        """Counts a bad step, on all processes at the same time.

        Args:
            iteration: The number of the step, from 1.
            batches: The batches of this process.
            own_losses: The losses of this process. The total comes first.
            gradient_norm: The norm of the gradient of the whole step.

        Returns:
            An entry for the log. It has the ids of the images of every process whose loss is not finite. If
            all losses are finite, it has all ids.
        """
        self.total += 1
        self.in_a_row += 1
        image_ids = [int(number) for batch in batches for number in batch.image_ids]
        finite = bool(own_losses.isfinite().all())
        told = self.processes.gather((finite, image_ids))
        guilty = [ids for fine, ids in told if not fine] or [ids for _, ids in told]
        dump = None
        if not finite or len(guilty) == len(told):
            dump = self._dump(iteration, batches, own_losses, gradient_norm)
        return {
            "iteration": iteration,
            "skipped": self.total,
            "image_ids": sorted(number for ids in guilty for number in ids),
            "gradient_norm": gradient_norm,
            "dumps": [path for path in self.processes.gather(dump) if path is not None],
        }

    def raise_if_hopeless(self, iteration: int, image_ids: list[int]) -> None:
        """Ends the run after too many bad steps in a row.

        Raises:
            ValueError: On all processes alike.
        """
        if self.in_a_row >= self.limit:
            raise ValueError(
                f"iteration {iteration}: the loss or its gradient was not finite {self.in_a_row} times in a "
                f"row, the last time with image ids {image_ids}; see metrics.jsonl and {self.directory}; the "
                "weights of the last checkpoint have not seen these batches"
            )

    def _dump(
        self, iteration: int, batches: list[Batch], own_losses: Tensor, gradient_norm: float
    ) -> str | None:
        path = self.directory / f"iteration_{iteration:08d}_rank_{self.processes.rank}.pth"
        if self.total > MOST_DUMPS:
            return None
        content = {
            "iteration": iteration,
            "losses": own_losses.cpu(),
            "gradient_norm": gradient_norm,
            "batches": [
                {
                    "images": batch.images.cpu(),
                    "image_sizes": batch.image_sizes.cpu(),
                    "image_ids": batch.image_ids,
                    "boxes": batch.targets.boxes.cpu(),
                    "labels": batch.targets.labels.cpu(),
                    "valid": batch.targets.valid.cpu(),
                }
                for batch in batches
            ],
        }
        buffer = io.BytesIO()
        torch.save(content, buffer)
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            path.write_bytes(buffer.getbuffer())
        except OSError:  # a full disk; the log has the ids
            with contextlib.suppress(OSError):
                path.unlink()
            return None
        return str(path)


class RunningStatistics:
    """The statistics of batch norms. A forward pass changes them, and a bad step must not."""

    def __init__(self, model: nn.Module) -> None:
        norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
        self._tensors = [buffer for norm in norms for buffer in norm.buffers()]
        self._before: list[Tensor] = []

    def remember(self) -> None:
        """Keeps the statistics. Call it before the forward pass."""
        self._before = [tensor.clone() for tensor in self._tensors]

    def restore(self) -> None:
        """Restores the statistics."""
        for tensor, before in zip(self._tensors, self._before, strict=True):
            tensor.copy_(before)
