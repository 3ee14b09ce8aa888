"""Runs of train.py, one for each model and seed. Complete runs are collected. Missing runs are trained."""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from parts.training.arguments import parse_arguments
from parts.training.checkpoint_checks import is_options
from parts.training.resuming import differences
from sparse_rcnn.nn import read_checkpoint

TRAIN = Path(__file__).parents[2] / "train.py"


class Run(NamedTuple):
    """One training: the output directory, and the other options of train.py."""

    words: list[str]
    output: Path

    def command(self, processes: int = 1) -> list[str]:
        """The command that trains it."""
        python = [sys.executable]
        if processes > 1:
            python += ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
        return [*python, str(TRAIN), *self.arguments()]

    def arguments(self) -> list[str]:
        """All options of train.py."""
        return [*self.words, "--output", str(self.output)]

    def log(self) -> Path:
        """The file for the output of a training that runs beside others."""
        return self.output.with_name(f"{self.output.name}.log")

    def found(self) -> tuple[dict[str, Any], list[str]] | None:
        """A complete run that is already there.

        Returns:
            Its summary with the model's "config", and a list of the options that differ. None if there is no
            complete run.

        Raises:
            ValueError: If a complete run is damaged. The message names the file.
        """
        summary = self.output / "summary.json"
        if not summary.is_file():
            return None
        path = self.output / "checkpoint.pth"
        checkpoint = read_checkpoint(path)
        if not is_options(checkpoint.get("arguments")):
            raise ValueError(f"{path}: was not written by train.py")
        asked = parse_arguments(None, self.arguments())
        asked.resume = None  # otherwise another number of iterations is allowed
        before = checkpoint["arguments"]
        reasons = differences(before, asked)
        if _directory(before["data"]) != _directory(asked.data):
            reasons.append(f"--data was {before['data']}, not {asked.data}")
        try:
            values = json.loads(summary.read_text())
        except ValueError as error:
            raise ValueError(f"{summary}: damaged: {error}") from error
        return {**values, "config": checkpoint["config"]}, reasons

    def result(self) -> dict[str, Any] | None:
        """The summary of a complete run of these options, with the model's "config", or None."""
        found = self.found()
        return None if found is None or found[1] else found[0]

    def train(self, processes: int = 1, threads: int | None = None) -> None:
        """Trains the model. An interrupted run is resumed.

        Args:
            processes: The number of processes.
            threads: The number of threads of a process. The output then goes to the log. None: the training
                runs in the foreground.

        Raises:
            ValueError: If train.py fails. The message ends with its last line.
        """
        self.output.parent.mkdir(parents=True, exist_ok=True)
        command = self.command(processes)
        if threads is None:
            status, last = _wait_for(subprocess.Popen(command)), ""
        else:
            environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
            with self.log().open("w") as log:
                status = _wait_for(
                    subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)
                )
            lines = self.log().read_text(errors="replace").strip().splitlines()
            last = f": {lines[-1]}; see {self.log()}" if lines else ""
        if status != 0:
            raise ValueError(
                f"{self.output.parent.name}, {self.output.name}: train.py ended with {status}{last}"
            )


def _directory(data: str | None) -> Path | None:
    """The absolute path of the data. None for the built-in shapes."""
    return None if data is None else Path(data).resolve()


def _wait_for(process: subprocess.Popen[bytes]) -> int:
    """The exit status of a training. Ctrl-C reaches it, too, and this waits until it has saved."""
    try:
        return process.wait()
    except KeyboardInterrupt:
        process.wait()
        raise


def train_missing(runs: list[Run], jobs: int, processes: int = 1) -> list[str]:
    """Trains all incomplete runs, `jobs` at a time, and returns the problems."""
    missing = [run for run in runs if run.result() is None]
    print(
        f"{len(runs) - len(missing)} of {len(runs)} runs are there, {len(missing)} to train, {jobs} at a time"
    )
    threads = max(1, (os.cpu_count() or 1) // (jobs * processes))
    problems: list[str] = []

    def train(run: Run) -> None:
        name = f"{run.output.parent.name}, {run.output.name}"
        try:
            run.train(processes, threads)
            result = run.result()
        except ValueError as error:
            problems.append(str(error))
            print(f"failed: {error}", flush=True)
            return
        if result is None:
            problems.append(f"{name}: interrupted")
        else:
            precision = "none" if result["AP"] is None else f"{result['AP']:.3f}"  # no boxes to find
            print(f"{name}: AP {precision} in {result['minutes']:.1f} min", flush=True)

    with ThreadPoolExecutor(jobs) as pool:
        try:
            list(pool.map(train, missing))
        except KeyboardInterrupt:  # all trainings get it, too, and no other may start
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return problems
