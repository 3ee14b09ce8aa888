"""The directory of a run: resumes the run in it, or renames it, and marks a complete run."""

import argparse
import json
import os
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from torch import nn

from parts.command_line import printable
from parts.evaluating import without_nan
from parts.outputs import remark
from parts.png import save_png
from parts.training.arguments import images_at_a_time, settings
from parts.training.batches import augmented
from parts.training.checkpoint_files import CheckpointDirectory
from parts.training.evaluation import Evaluated
from parts.training.loggers.logger import Logger, open_logger
from parts.training.pictures import ABOUT_PAIRS, draw_samples, sheet_of
from parts.training.processes import LAUNCH, Processes, launch_name
from parts.training.resuming import find_run, other_boxes, read_resumed
from parts.training.run_lock import lock
from parts.training.run_log import RunLog
from parts.training.run_state import RunState
from parts.training.training_data import SPLIT
from sparse_rcnn.data import AugmentedDataset, DetectionDataset, Draw
from sparse_rcnn.data.formats.counted import counted
from sparse_rcnn.data.formats.dataset_remarks import remark_on_proposals


class RunDirectory:
    """The directory --output.

    Args:
        arguments: The options.
        processes: The processes of the run. Only rank 0 writes.
        stack: It keeps the lock of the directory until the run ends.

    Attributes:
        resumed: The checkpoint from which the run is resumed, or None.
    """

    def __init__(self, arguments: argparse.Namespace, processes: Processes, stack: ExitStack) -> None:
        self.output = Path(arguments.output)
        if self.output.exists() and not self.output.is_dir():
            raise ValueError(f"--output {self.output}: is a file; give a folder")
        self.checkpoints = CheckpointDirectory(self.output, arguments.keep_checkpoints)
        self._arguments = arguments
        self._images = images_at_a_time(arguments, processes.world_size)
        self._processes = processes
        self._lock = stack.enter_context(ExitStack())
        self._is_locked = processes.rank == 0 and self.output.is_dir() and not arguments.dry_run
        if self._is_locked:
            self._lock.enter_context(lock(self.output))
        self.resumed, self._not_resumed = find_run(arguments, self.checkpoints, processes)

    @property
    def split(self) -> Path | None:
        """The split.json of a run that is resumed: which images it held out when it began. Or None."""
        file = self.output / SPLIT
        return file if self.resumed is not None and file.is_file() else None

    def read_resumed(
        self, class_names: list[str], num_images: int, digests: dict[str, str]
    ) -> dict[str, Any] | None:
        """The checkpoint to resume, checked against options and data. None for a new run."""
        if self.resumed is None:
            return None
        checkpoint = read_resumed(self.resumed, self._arguments, class_names, num_images, digests)
        if self._processes.rank == 0 and (changed := other_boxes(checkpoint, digests)):
            remark(changed)
        return checkpoint

    def say_what_runs(
        self,
        checkpoint: dict[str, Any] | None,
        model: nn.Module,
        config: dict[str, Any],
        dataset: DetectionDataset,
    ) -> None:
        """Prints where a run is resumed, its model and devices, and whether proposals are too few."""
        processes, arguments = self._processes, self._arguments
        if processes.rank != 0:
            return
        if checkpoint is not None:
            print(f"resuming at iteration {checkpoint['iteration']} from {self.resumed}")
            if checkpoint["arguments"]["iterations"] != arguments.iterations and not arguments.minutes:
                print(f"the schedule is now that of {arguments.iterations} iterations")
        if remark := remark_on_proposals(dataset, config["num_proposals"]):
            print(printable(f"train: {remark}"))
        if arguments.table:
            print(arguments.table)
        parameters = sum(parameter.numel() for parameter in model.parameters()) / 1e6
        print(
            f"{config['backbone']}, {parameters:.1f} M parameters, on {processes.world_size} x "
            f"{processes.device}, {self._images} images at a time, {arguments.batch_size} per step; "
            f"output in {self.output}"
        )

    def begin(self, start: int, checkpoint_bytes: int) -> None:
        """Prepares the directory. A run with other options is renamed.

        Raises:
            ValueError: If the disk has no room for a checkpoint.
        """
        if self._processes.rank != 0:
            return
        self.checkpoints.check_room(checkpoint_bytes)
        if self._not_resumed:  # not earlier, since a wrong command must not rename a run
            if os.name == "nt":  # Windows renames no directory with an open file
                self._lock.close()
            aside = set_aside(self.output)
            print(f"{self.output} already has a run, which is now {aside} ({self._not_resumed})")
            if self._not_resumed == "complete":
                print(f"to train it for longer: --output {aside} --resume and more minutes or iterations")
        elif self.resumed is None and not (self.output / "metrics.jsonl").exists() and self._has_files():
            remark(f"{self.output} has files of something else: the run is written beside them (--output)")
        if self._not_resumed or not self._is_locked:
            self.output.mkdir(parents=True, exist_ok=True)
            self._lock.enter_context(lock(self.output))
        if table := self._arguments.table:
            (self.output / "recipe.txt").write_text(f"{table}\n")
        if name := launch_name():
            (self.output / LAUNCH).write_text(name)
        if start < self._arguments.iterations:
            (self.output / "summary.json").unlink(missing_ok=True)

    def _has_files(self) -> bool:
        return self.output.is_dir() and any(path.name != "lock" for path in self.output.iterdir())

    def show_augmentation(self, dataset: DetectionDataset) -> None:
        """Writes augmentation.png: nine images as the first epoch of the strongest augmentation has them."""
        if self._processes.rank == 0:
            samples = augmented(dataset, self._arguments)
            epoch = samples.first_epoch if isinstance(samples, AugmentedDataset) else 0
            steps = epoch * len(dataset) / self._arguments.batch_size
            share = steps / max(1, self._arguments.iterations)  # a short run does not get so far
            draws = [Draw(index, epoch, share) for index in range(min(9, len(dataset)))]
            try:
                sheet = sheet_of(draw_samples(samples, dataset.class_names, draws))
                save_png(sheet, self.output / "augmentation.png")
            except (OSError, ValueError) as error:
                print(f"no augmentation.png: {error}", file=sys.stderr)

    def open_loggers(self) -> list[Logger]:
        """The programs of --logger, which get the figures of the run.

        Raises:
            ValueError: If one of them cannot start, for example without a login.
        """
        loggers = []
        for name in self._arguments.logger if self._processes.rank == 0 else []:
            try:
                loggers.append(open_logger(name, self.output, settings(self._arguments)))
            except Exception as error:  # each has errors of its own
                raise ValueError(f"--logger {name}: {error}") from error
        return loggers

    def finish(self, run: RunState, found: Evaluated, run_log: RunLog) -> None:
        """Writes summary.json, which marks the run as complete, and then the pictures."""
        if self._processes.rank != 0:
            return
        summary = {
            "iterations": self._arguments.iterations,
            **found.metrics,
            "skipped": run.bad_batches.total,
            "unreadable": len(run.unreadable.known),
            "minutes": run.seconds / 60,
        }
        temporary = self.output / "summary.tmp"
        temporary.write_text(json.dumps(without_nan(summary), indent=2))
        temporary.replace(self.output / "summary.json")
        try:
            run_log.plot(self.output / "training.png")
            (self.output / "pictures").mkdir(exist_ok=True)
            for name, picture in found.pictures.items():
                save_png(picture, self.output / "pictures" / f"{name}.png")
            save_png(
                sheet_of([*found.pictures.values()][:6], 2, ABOUT_PAIRS), self.output / "predictions.png"
            )
        except (OSError, ValueError) as error:  # a full disk: checkpoint and figures are written already
            print(f"not all pictures could be written: {error}", file=sys.stderr)
        left_out = f" ({summary['left_out']} unreadable ones left out)" if summary["left_out"] else ""
        best = self.checkpoints.best
        use = f"; to detect, evaluate and export, take {best}" if best.is_file() else ""
        if use and (later := run_log.evaluations_since_best()):
            entry = [entry for entry in run_log.entries if "AP" in entry][-1 - later]
            after = counted(entry["iteration"], "iteration", "iterations")
            use += f", which has AP {entry['AP']:.3f} after {after}"
        iterations = counted(summary["iterations"], "iteration", "iterations")
        print(
            f"AP {summary['AP']:.3f}, AP50 {summary['AP50']:.3f} on {found.num_images} images{left_out} "
            f"after {iterations}, {summary['skipped']} skipped, "
            f"{summary['unreadable']} unreadable images replaced, "
            f"{summary['minutes']:.1f} min; see {self.output}{use}"
        )


def set_aside(output: Path) -> Path:
    """Renames the directory of an earlier run, so that nothing is overwritten.

    Raises:
        ValueError: If it is the working directory, or above it: relative paths would then mean another place.
    """
    if Path.cwd().is_relative_to(output.resolve()):
        raise ValueError(
            f"--output {output}: already has a run of other options, and cannot be renamed from inside. Give "
            "another directory, or start from outside"
        )
    number = 1
    while (old := output.with_name(f"{output.name}.{number}")).exists():
        number += 1
    output.rename(old)
    return old
