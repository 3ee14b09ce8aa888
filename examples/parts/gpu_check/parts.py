"""Commands with time limits. If one fails or hangs, the others go on."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[3]
LEAST = 5.0  # seconds; with less time left, a part is not started
MORE = 10.0  # seconds to wait for the end of a killed process


class Part(NamedTuple):
    """A command and its time limit."""

    name: str
    command: list[str]
    limit: float  # seconds
    together: bool = False  # runs beside others, since it measures no time
    counts: bool = True  # whether the report has its tables


class Result(NamedTuple):
    """The result of a part."""

    name: str
    status: str  # passed, failed, "ended at its limit" or skipped
    seconds: float
    log: str = ""

    @property
    def is_failure(self) -> bool:
        """Whether it failed. A skipped part did not fail: there was no time."""
        return self.status not in ("passed", "skipped")


class Deadline:
    """The time at which everything must end."""

    def __init__(self, seconds: float) -> None:
        self.end = time.monotonic() + seconds

    def remaining(self) -> float:
        """The seconds that are left, at least 0."""
        return max(0.0, self.end - time.monotonic())

    def end_now(self, *_: object) -> None:
        """A handler of signals: running parts are ended, and the report is written."""
        self.end = 0.0


def run_part(part: Part, deadline: Deadline, directory: Path) -> Result:
    """Runs a part until it ends or its time is over. Then all its processes are killed."""
    began = time.monotonic()
    if deadline.remaining() < LEAST:
        return Result(part.name, "skipped", 0.0)
    path = directory / f"{part.name.replace(' ', '-')}.log"
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{os.environ.get('PYTHONPATH', '')}"}
    with path.open("wb") as log:
        process = subprocess.Popen(
            part.command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=ROOT,
            env=environment,
            start_new_session=True,  # its own group can be killed as a whole
        )
        status = "ended at its limit"
        while time.monotonic() - began < part.limit and deadline.remaining() > 0:
            try:
                status = "passed" if process.wait(timeout=0.2) == 0 else "failed"
                break
            except subprocess.TimeoutExpired:
                continue
        _kill_group(process)
    text = path.read_text(errors="replace")
    return Result(part.name, status, time.monotonic() - began, text[-100_000:])


def _kill_group(process: "subprocess.Popen[bytes]") -> None:
    """Kills all processes of a part that still run."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    with contextlib.suppress(subprocess.TimeoutExpired):  # if a driver holds it, the others go on
        process.wait(timeout=MORE)


def run_parts(
    parts: list[Part], deadline: Deadline, directory: Path, workers: int, tell: Callable[[Result], None]
) -> list[Result]:
    """Runs the parts that may run together, `workers` at a time, then the others one by one."""
    results: list[Result] = []

    def run(part: Part) -> None:
        result = run_part(part, deadline, directory)
        results.append(result)
        tell(result)

    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(run, [part for part in parts if part.together]))
    for part in parts:
        if not part.together:
            run(part)
    return results
