"""Evaluation by all processes, during training and at the end. Its problems do not end the run."""

import argparse
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from PIL.Image import Image
from torch import Tensor

from parts.command_line import printable
from parts.evaluating import can_evaluate, shown
from parts.low_scores import about_low_scores
from parts.png import save_png
from parts.report.report import Evaluated as Reported
from parts.report.report import write_report
from parts.training.pictures import ABOUT_PAIRS, THRESHOLD, draw_predictions, sheet_of
from parts.training.processes import Processes
from parts.training.run_log import RunLog
from parts.training.stop import Stop, StopRequestedError
from parts.training.training_state import TrainingState
from sparse_rcnn.data import (
    DetectionDataset,
    analyse,
    evaluate_coco,
    format_metrics,
)
from sparse_rcnn.data.evaluation.coco_metrics import SUMMARY
from sparse_rcnn.data.formats.counted import counted
from sparse_rcnn.data.formats.dataset_remarks import crowded_images
from sparse_rcnn.inference import Detector, NotFiniteError, detect_dataset, refuse_not_finite
from sparse_rcnn.nn import EndToEndDetector

MOST_NAMED = 5


class Evaluated(NamedTuple):
    """What an evaluation found; metrics and pictures are empty on other processes than rank 0.

    Attributes:
        metrics: As from ``evaluate_coco``, and "left_out", the number of images that could not be read.
        pictures: Of the first images, by the name of their file.
        num_images: That were evaluated.
        problem: Which detections are not finite, if any are: then there are no figures.
        results: The detections as COCO results.
        image_ids: Of the images that were evaluated.
    """

    metrics: dict[str, float]
    pictures: dict[str, Image]
    num_images: int
    problem: str = ""
    results: Sequence[dict[str, Any]] = ()
    image_ids: Sequence[int] = ()


class Evaluation:
    """Evaluates the model of a run on its validation set.

    Args:
        arguments: The options.
        state: The state of the run, with the model or its average.
        dataset: The validation set.
        processes: The processes that share the images.
        run_log: The metrics are written to it.
        stop: The request to stop. It ends an evaluation, since this can be repeated.
    """

    def __init__(
        self,
        arguments: argparse.Namespace,
        state: TrainingState,
        dataset: DetectionDataset,
        processes: Processes,
        run_log: RunLog,
        stop: Stop,
    ) -> None:
        self.arguments = arguments
        self.state = state
        self.dataset = dataset
        self.processes = processes
        self.run_log = run_log
        self.stop = stop
        size = arguments.eval_size, arguments.max_size
        whole = EndToEndDetector(state.evaluated)
        checked = refuse_not_finite(whole, "this run")
        self.detector = Detector(checked, dataset.class_names, *size, device=processes.device)
        if len(dataset) and (crowded := crowded_images(dataset, whole.max_detections)).num_images:
            run_log.say(
                f"val: {counted(crowded.num_images, 'image has', 'images have')} more than "
                f"{whole.max_detections} objects, up to {crowded.most}. As in COCO's figures, an evaluation "
                f"takes {whole.max_detections} detections of an image, so AP is lower than it could be. Give "
                f"evaluate and detect --max-detections {crowded.most}"
            )

    def is_due(self, iteration: int, ends_part: bool = False) -> bool:
        """Whether one is due in between, after this iteration; without an interval, if it ends a part."""
        interval = self.arguments.eval_interval
        if interval is None:
            return ends_part
        return interval > 0 and iteration % interval == 0 and 0 < iteration < self.arguments.iterations

    def is_hopeless(self) -> bool:
        """Whether --patience is at its end: so many evaluations in a row were no better than one above 0."""
        patience = self.arguments.patience
        return self.processes.from_first(0 < patience <= self.run_log.evaluations_since_best())

    def was_interrupted(self, start: int) -> bool:
        """Whether the resumed run ended in the middle of an evaluation."""
        return self.is_due(start) and self.processes.from_first(
            all(entry["iteration"] != start or "AP" not in entry for entry in self.run_log.entries)
        )

    def run(self, iteration: int, seconds: float = math.nan) -> Evaluated:
        """Metrics of the model, and pictures of its detections.

        Images that cannot be read are left out, named and counted. Detections that are not finite have no
        figures: that is said, and training goes on, for steps that are not finite are skipped.

        Args:
            iteration: After which it is.
            seconds: That the steps took until then.

        Raises:
            StopRequestedError: On all processes, if one of them has been asked to stop.
        """
        results, left_out, problem = self._detect()
        found = Evaluated({}, {}, len(self.dataset) - len(left_out), problem)
        if self.processes.rank == 0:
            if left_out:
                self._name(iteration, left_out)
            if problem:
                self.run_log.say(f"iteration {iteration}: no figures: {printable(problem)}")
            metrics = metrics_of(self.dataset, results, self.dataset.image_ids if problem else left_out)
            metrics["left_out"] = len(left_out)
            self.run_log.record({"iteration": iteration, "minutes": seconds / 60, **metrics}, "val")
            self.run_log.say(f"iteration {iteration}\n{format_metrics(metrics)}")
            pictures = draw_predictions(self.detector, self.dataset, 8)
            self._show_progress(iteration, pictures)
            read = [image for image in self.dataset.image_ids if image not in left_out]
            found = found._replace(metrics=metrics, pictures=pictures, results=results, image_ids=read)
        self.processes.wait()  # pycocotools can take long: this wait has a longer timeout than a step
        self.state.model.train()
        return found

    def write_report(self, found: Evaluated) -> None:
        """Writes report.html, and small photos, into the directory of the run, from its last evaluation.

        If no score reaches the threshold of the pictures, that is said, too.
        """
        if self.processes.rank != 0 or found.problem or not found.image_ids:
            return
        best = max(found.results, key=lambda result: result["score"], default=None)
        if best is not None and best["score"] < THRESHOLD:
            label = self.dataset.category_ids.index(best["category_id"])
            words = about_low_scores(THRESHOLD, (best["score"], self.dataset.class_names[label]))
            self.run_log.say(printable(f"{words} in detect; a longer training raises scores"))
        output = Path(self.arguments.output).absolute()  # "." and ".." have a name, too
        data = Path(self.arguments.data or self.arguments.shapes_dir).absolute()
        iterations = counted(self.arguments.iterations, "iteration", "iterations")
        title = f"{output.name} on {data.name}, after {iterations}"
        try:
            analysis = analyse(self.dataset, found.results, image_ids=found.image_ids)
            metrics = found.metrics if can_evaluate() else {}
            write_report(output, title, self.dataset, [Reported(output.name, metrics, analysis)])
        except (OSError, ValueError) as error:
            self.run_log.say(f"no report.html: {printable(error)}")

    def _detect(self) -> tuple[list[dict[str, Any]], dict[int, str], str]:
        """COCO results on rank 0; on all processes, unreadable images by id, and what is not finite.

        Neither the batches nor the results depend on the number of processes.
        """
        processes = self.processes
        processes.copy_first(self.state.evaluated.buffers())  # batch norm has its own on every rank
        self.state.evaluated.eval()

        def detect_unless_stopped(images: Tensor, image_sizes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            self.stop.raise_if_requested()
            return self.detector.detect(images, image_sizes)

        found: list[dict[str, Any]] = []
        unreadable: dict[int, str] = {}
        problem = ""
        try:
            found = detect_dataset(
                detect_unless_stopped,
                self.dataset,
                processes.device,
                self.arguments.eval_batch_size,
                self.arguments.workers,
                world_size=processes.world_size,
                unreadable=unreadable,
                **shown(processes.rank),
            )
        except StopRequestedError:
            pass
        except NotFiniteError as error:
            problem = str(error)
        # Nobody waits for results of a process that has none: all learn first how it went.
        outcomes = processes.gather((bool(self.stop), unreadable, problem))
        if any(stopped for stopped, *_ in outcomes):
            raise StopRequestedError("stopped in an evaluation")
        left_out = {number: why for _, share, _ in outcomes for number, why in share.items()}
        problem = next((text for *_, text in outcomes if text), "")
        return [result for share in processes.gather_to_first(found) for result in share], left_out, problem

    def _name(self, iteration: int, left_out: dict[int, str]) -> None:
        named = "; ".join([*left_out.values()][:MOST_NAMED])
        more = "; ..." if len(left_out) > MOST_NAMED else ""
        self.run_log.say(
            f"iteration {iteration}: {len(left_out)} of {len(self.dataset)} validation images cannot be "
            f"read, and are left out of the evaluation: {printable(named + more)}"
        )

    def _show_progress(self, iteration: int, pictures: dict[str, Image]) -> None:
        sheet = sheet_of([*pictures.values()][:6], 2, ABOUT_PAIRS)
        self.run_log.picture("predictions", sheet, iteration)
        directory = Path(self.arguments.output) / "progress"
        try:
            directory.mkdir(exist_ok=True)
            save_png(sheet, directory / f"{iteration:08d}.png")
        except OSError as error:
            self.run_log.say(f"iteration {iteration}: no picture: {error}")


def metrics_of(
    dataset: DetectionDataset, results: list[dict[str, Any]], left_out: Iterable[int]
) -> dict[str, float]:
    """COCO's figures of all images but those with the ids `left_out`.

    Without pycocotools or without images, all of them are NaN, and the run goes on.
    """
    image_ids = sorted({*dataset.image_ids} - {*left_out})
    if not can_evaluate() or not image_ids:
        return dict.fromkeys((name for name, *_ in SUMMARY), math.nan)
    return evaluate_coco(dataset, results, image_ids=image_ids)
