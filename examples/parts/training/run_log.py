"""The output of a run: progress bar, metrics.jsonl, loggers, and a plot at the end."""

import contextlib
import json
import math
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import matplotlib
import PIL.Image
from tqdm import tqdm

from parts.command_line import printable
from parts.evaluating import without_nan
from parts.training.loggers.logger import Logger
from parts.training.loggers.tensorboard_logger import TensorBoardLogger

matplotlib.use("Agg")

LINES = 200  # the most progress lines of a run, if its output is a file
TITLES = {
    "loss": "sum over stages",
    "classification": "classification, last stage",
    "l1": "L1, last stage",
    "giou": "GIoU, last stage",
}


class RunLog:
    """The log of a run. Only the process with rank 0 prints and writes.

    Args:
        output: The directory of the run. With None, nothing is written.
        start: The first iteration. Later entries of a run that died are removed.
        iterations: The last iteration.
        rank: The number of this process.
        loggers: They get the figures, too, besides TensorBoard.
    """

    def __init__(
        self, output: Path | None, start: int, iterations: int, rank: int, loggers: Iterable[Logger] = ()
    ) -> None:
        self.output = output
        self.rank = rank
        self.entries: list[dict[str, Any]] = []
        self._complained = False
        self._iterations, self._shown = iterations, start * LINES // iterations
        self._loggers: list[Logger] = []
        if output is not None:
            self._path = output / "metrics.jsonl"
            self.entries = [entry for entry in _read(self._path) if entry["iteration"] <= start]
            self._rewrite()
            # TensorBoard then also hides the later entries of a run that died.
            self._loggers = [TensorBoardLogger(output, start), *loggers]
        self.progress = tqdm(
            total=iterations,
            initial=start,
            unit="step",
            disable=rank != 0 or not sys.stderr.isatty(),  # a file gets lines instead
            mininterval=1,
            dynamic_ncols=True,
        )

    def say(self, text: str) -> None:
        """Prints beside the progress bar."""
        if self.rank == 0:
            self.progress.write(text)
            sys.stdout.flush()  # users read the log during the run

    def record(self, entry: dict[str, Any], group: str) -> None:
        """Adds an entry with its "iteration". Lists have one value per stage.

        If the iteration already has metrics (from a run that died after it wrote them), they are replaced.
        """
        again = [e for e in self.entries if _is_same_evaluation(e, entry)] if "AP" in entry else []
        for one in again:
            self.entries.remove(one)
        self.entries.append(entry)
        if self.output is None:
            return
        try:
            if self._complained or again:
                self._rewrite()  # this also writes the entries that could not be written before
                self._complained = False
            else:
                with self._path.open("a") as file:
                    file.write(_line(entry))
        except OSError as error:  # a full disk must not end a run
            if not self._complained:
                self.say(f"cannot write to {self._path}: {error}; training goes on")
            self._complained = True
        self._pass_on("numbers", _flat(entry, group), entry["iteration"])

    def evaluations_since_best(self) -> int:
        """The number of evaluations after the best AP. 0 if the last is the best.

        Of equal ones, the first is the best. While AP is 0 or not known, the last is: it has learned more.
        """
        figures = [_number(entry["AP"]) for entry in self.entries if "AP" in entry]
        if max(figures, default=0) <= 0:
            return 0
        return len(figures) - 1 - figures.index(max(figures))

    def show(self, entry: dict[str, Any]) -> None:
        """Shows the latest losses in the progress bar. A log file gets a line from time to time."""
        text = (
            f"loss {entry['loss']:.2f}, class {entry['classification']:.2f}, L1 {entry['l1']:.2f}, "
            f"GIoU {entry['giou']:.2f}, lr {entry['learning_rate']:.1e}, "
            f"{entry['images_per_second']:.1f} images/s"
        )
        self.progress.set_postfix_str(text)
        shown = entry["iteration"] * LINES // self._iterations
        if self.rank == 0 and self.progress.disable and shown > self._shown:
            print(f"iteration {entry['iteration']} of {self._iterations}: {text}", flush=True)
            self._shown = shown

    def expect(self, iterations: int) -> None:
        """Sets the last iteration, which --minutes changes with the speed."""
        self._iterations = self.progress.total = iterations

    def picture(self, name: str, picture: PIL.Image.Image, iteration: int) -> None:
        """Adds a picture to TensorBoard and the other loggers."""
        self._pass_on("picture", name, picture, iteration)

    def close(self) -> None:
        """Ends the progress bar and writes the remaining entries. During an error, the run has failed."""
        self.progress.close()
        self._pass_on("close", sys.exc_info()[0] is not None)
        self._loggers = []
        if self._complained:
            with contextlib.suppress(OSError):
                self._rewrite()

    def plot(self, path: Path) -> None:
        """Plots losses of the last stage, IoU of the matches of every stage, and AP over iterations."""
        from matplotlib import pyplot

        losses = [entry for entry in self.entries if "loss" in entry]
        metrics = [entry for entry in self.entries if "AP" in entry]
        figure, (left, middle, right) = pyplot.subplots(1, 3, figsize=(15, 4.8))
        # Fixed margins: a layout that matplotlib finds takes as long as the plot.
        figure.subplots_adjust(left=0.06, right=0.99, bottom=0.28, top=0.93, wspace=0.18)
        for key, title in TITLES.items():
            left.plot([e["iteration"] for e in losses], [e[key] for e in losses], label=title)
        left.set(xlabel="iteration", ylabel="weighted loss", yscale="log", title="training")
        by_stage = [e for e in losses if "matched_iou_by_stage" in e]
        for stage in range(len(by_stage[-1]["matched_iou_by_stage"]) if by_stage else 0):
            values = [e["matched_iou_by_stage"][stage] for e in by_stage]
            values = [math.nan if value is None else value for value in values]
            middle.plot([e["iteration"] for e in by_stage], values, label=f"stage {stage + 1}")
        middle.set(xlabel="iteration", ylim=(0, 1), title="IoU of matched boxes")
        for key in ("AP", "AP50", "AP75"):
            values = [math.nan if e[key] is None else e[key] for e in metrics]
            right.plot([e["iteration"] for e in metrics], values, marker="o", label=key)
        right.set(xlabel="iteration", ylim=(0, 1), title="validation")
        for axes in (left, middle, right):
            axes.grid(alpha=0.3)
            if axes.lines:  # below the curves, where it covers nothing
                axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.17), ncols=3, frameon=False)
        figure.savefig(path, dpi=120)
        pyplot.close(figure)

    def _pass_on(self, kind: str, *arguments: Any) -> None:
        """Passes something on to all loggers. After an error of one, the run goes on without it."""
        for logger in [*self._loggers]:
            try:
                getattr(logger, kind)(*arguments)
            except Exception as error:  # whatever a service answers: no run ends with it
                name = type(logger).__name__
                self.say(f"{name} failed: {printable(error)}; training goes on without it")
                self._loggers.remove(logger)

    def _rewrite(self) -> None:
        temporary = self._path.with_suffix(".tmp")
        with temporary.open("w") as file:
            file.write("".join(map(_line, self.entries)))
            file.flush()
            os.fsync(file.fileno())  # without it, a loss of power may leave an empty file
        temporary.replace(self._path)


def _flat(entry: dict[str, Any], group: str) -> dict[str, float]:
    """The numbers of an entry by name, with one for each stage: "train/l1/stage_1"."""
    values = {}
    for key, value in entry.items():
        if key.endswith("_by_stage"):
            for stage, part in enumerate(value, start=1):
                values[f"{group}/{key.removesuffix('_by_stage')}/stage_{stage}"] = part
        elif key != "iteration" and isinstance(value, (int, float)):
            values[printable(f"{group}/{key}")] = value
    return values


def _number(value: float | None) -> float:
    return -1.0 if value is None or math.isnan(value) else value


def _is_same_evaluation(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return "AP" in one and "AP" in other and one["iteration"] == other["iteration"]


def _line(entry: dict[str, Any]) -> str:
    return json.dumps(without_nan(entry)) + "\n"


def _read(path: Path) -> list[dict[str, Any]]:
    """The entries of a file. Lines that are cut off or damaged are left out."""
    entries = []
    for line in path.read_text(errors="replace").splitlines() if path.is_file() else []:
        try:
            entries.append(json.loads(line))
        except ValueError:
            continue
    return entries
