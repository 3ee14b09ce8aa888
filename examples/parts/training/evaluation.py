"""Evaluation by all processes together, in between and at the end; it never costs the run."""

import argparse
import contextlib
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from PIL.Image import Image
from torch import Tensor

from parts.command_line import printable
from parts.detector_file import Detector
from parts.evaluating import can_evaluate, detect_dataset
from parts.training.journal import Journal
from parts.training.pictures import draw_predictions, sheet_of
from parts.training.processes import Processes
from parts.training.state import TrainingState
from parts.training.stop import Stop, StopRequestedError
from sparse_rcnn.data import (
    DetectionDataset,
    evaluate_coco,
    format_metrics,
)
from sparse_rcnn.data.evaluation.coco_metrics import SUMMARY
from sparse_rcnn.nn import EndToEndDetector

MOST_NAMED = 5


class Evaluated(NamedTuple):
    """What an evaluation found; all but ``metrics`` is empty on other processes than rank 0.

    Attributes:
        metrics: As from ``evaluate_coco``, and "left_out", the number of images that could not be read.
        pictures: Of the first images, by the name of their file.
        num_images: That were evaluated.
    """

    metrics: dict[str, float]
    pictures: dict[str, Image]
    num_images: int


class Evaluation:
    """Evaluates the model of a run on its validation set.

    Args:
        arguments: The options.
        state: Of the run: the model, or its average.
        dataset: The validation set.
        processes: They share the images.
        journal: Where the metrics go.
        stop: A signal ends an evaluation: it can be repeated.
    """

    def __init__(
        self,
        arguments: argparse.Namespace,
        state: TrainingState,
        dataset: DetectionDataset,
        processes: Processes,
        journal: Journal,
        stop: Stop,
    ) -> None:
        self.arguments = arguments
        self.state = state
        self.dataset = dataset
        self.processes = processes
        self.journal = journal
        self.stop = stop
        size = arguments.eval_size, arguments.max_size
        self.detector = Detector(EndToEndDetector(state.evaluated), dataset.class_names, *size)

    def is_due(self, iteration: int, ends_part: bool = False) -> bool:
        """Whether one is due in between, after this iteration; without an interval, if it ends a part."""
        interval = self.arguments.eval_interval
        if interval is None:
            return ends_part
        return interval > 0 and iteration % interval == 0 and 0 < iteration < self.arguments.iterations

    def is_hopeless(self) -> bool:
        """Whether --patience is at its end: so many evaluations in a row were no better than one before."""
        patience = self.arguments.patience
        return self.processes.from_first(0 < patience <= self.journal.evaluations_since_best())

    def was_interrupted(self, start: int) -> bool:
        """Whether the run that goes on ended in the middle of one."""
        return self.is_due(start) and self.processes.from_first(
            all(entry["iteration"] != start or "AP" not in entry for entry in self.journal.entries)
        )

    def run(self, iteration: int, seconds: float = math.nan) -> Evaluated:
        """Metrics and pictures of what the model finds by now.

        Images that cannot be read are left out, named and counted.

        Args:
            iteration: After which it is.
            seconds: That the steps took until then.

        Raises:
            StopRequestedError: On all processes, if one of them has been asked to stop.
        """
        results, left_out = self._detect()
        found = Evaluated({}, {}, len(self.dataset) - len(left_out))
        if self.processes.rank == 0:
            if left_out:
                self._name(iteration, left_out)
            metrics = metrics_of(self.dataset, results, left_out)
            metrics["left_out"] = len(left_out)
            self.journal.record({"iteration": iteration, "minutes": seconds / 60, **metrics}, "val")
            self.journal.say(f"iteration {iteration}\n{format_metrics(metrics)}")
            pictures = draw_predictions(self.detector, self.dataset, self.processes.device, 8)
            self._show_progress(iteration, pictures)
            found = found._replace(metrics=metrics, pictures=pictures)
        self.processes.wait()  # for pycocotools, with more patience than the next step has
        self.state.model.train()
        return found

    def _detect(self) -> tuple[list[dict[str, Any]], dict[int, str]]:
        """COCO results on rank 0; on all processes, the ids of images that could not be read, and why.

        The batches are the same however many processes share them, and so are the results.
        """
        processes = self.processes
        processes.copy_first(self.state.evaluated.buffers())  # batch norm has its own on every rank
        self.state.evaluated.eval()

        def detect_unless_stopped(images: Tensor, image_sizes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            self.stop.raise_if_requested()
            return self.detector.detect(images, image_sizes)

        found: list[dict[str, Any]] = []
        unreadable: dict[int, str] = {}
        with contextlib.suppress(StopRequestedError):
            found = detect_dataset(
                detect_unless_stopped,
                self.dataset,
                processes.device,
                self.arguments.eval_batch_size,
                self.arguments.workers,
                processes.rank,
                processes.world_size,
                unreadable,
            )
        # Nobody waits for results of a process that has none: all learn first how it went.
        outcomes = processes.gather((bool(self.stop), unreadable))
        if any(stopped for stopped, _ in outcomes):
            raise StopRequestedError("stopped in an evaluation")
        left_out = {number: problem for _, share in outcomes for number, problem in share.items()}
        return [result for share in processes.gather_to_first(found) for result in share], left_out

    def _name(self, iteration: int, left_out: dict[int, str]) -> None:
        named = "; ".join([*left_out.values()][:MOST_NAMED])
        more = "; ..." if len(left_out) > MOST_NAMED else ""
        self.journal.say(
            f"iteration {iteration}: {len(left_out)} of {len(self.dataset)} validation images cannot be "
            f"read, and are left out of the evaluation: {printable(named + more)}"
        )

    def _show_progress(self, iteration: int, pictures: dict[str, Image]) -> None:
        sheet = sheet_of([*pictures.values()][:6])
        self.journal.picture("predictions", sheet, iteration)
        directory = Path(self.arguments.output) / "progress"
        try:
            directory.mkdir(exist_ok=True)
            sheet.save(directory / f"{iteration:08d}.png")
        except OSError as error:
            self.journal.say(f"iteration {iteration}: no picture: {error}")


def metrics_of(
    dataset: DetectionDataset, results: list[dict[str, Any]], left_out: Iterable[int]
) -> dict[str, float]:
    """COCO's figures of all images but those with the ids ``left_out``.

    NaN for each of them without pycocotools, or without an image: a run of days does not end for that.
    """
    image_ids = sorted({*dataset.image_ids} - {*left_out})
    if not can_evaluate() or not image_ids:
        return dict.fromkeys((name for name, *_ in SUMMARY), math.nan)
    return evaluate_coco(dataset, results, image_ids=image_ids)
