"""Rows of a table in their own processes, so that memory of one row does not change another."""

import multiprocessing
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from parts.host_memory import can_set_freed_memory, keep_freed_memory, return_freed_memory
from parts.measuring import Machine, Run
from parts.reader import end_with_parent

MEMORY_KEPT = ", memory kept"  # part of a row's name; train.py, evaluate.py and detect.py do this on a CPU
MEMORY_RETURNED = ", memory returned"  # train.py does this with --freed-memory return
FREED_MEMORY = {MEMORY_KEPT: keep_freed_memory, MEMORY_RETURNED: return_freed_memory}
Build = Callable[..., Run]  # of the machine, the name of the row, and more arguments


def rows_on(machine: Machine, names: Iterable[str]) -> list[str]:
    """The rows that differ on this machine. On a GPU, PyTorch keeps the memory in all of them."""
    if machine.device.type != "cpu" or not can_set_freed_memory():
        for words in FREED_MEMORY:
            names = dict.fromkeys(name.replace(words, "") for name in names)
    return [name for name in names if machine.compiled or "compiled" not in name]


def build_row(build: Build, machine: Machine, name: str, *arguments: Any) -> Run:
    """The run of a row, in this process. If its name says how memory is freed, only for this row."""
    for words, set_up in FREED_MEMORY.items():
        if words in name and not set_up():
            raise ValueError(f"{name}: this system does not leave that to a process")
    return build(machine, name, *arguments)


def own_process(build: Build, machine: Machine, name: str, *arguments: Any) -> Run:
    """The run of a row in its own process. The process ends when the run is deleted.

    On a GPU, all rows are in this process: several processes would share its memory.
    """
    if machine.device.type != "cpu":
        return build_row(build, machine, name, *arguments)
    return OwnProcess(build, machine, name, *arguments)


class OwnProcess:
    """A run in another process.

    Raises:
        RuntimeError: Here or in a call, if that process ends. The message names the row.
    """

    def __init__(self, build: Build, machine: Machine, name: str, *arguments: Any) -> None:
        self.name = name
        self.pool = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), end_with_parent)
        self._wait_for(_build, build, machine, name, *arguments)

    def __call__(self) -> Any:
        """The result."""
        return self._wait_for(_call)

    def seconds(self) -> float:
        """The seconds of a call in that process, without the transfer of its result."""
        seconds: float = self._wait_for(_time)
        return seconds

    def _wait_for(self, call: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return self.pool.submit(call, *arguments).result()
        except BrokenProcessPool as error:
            raise RuntimeError(f"the process of the row {self.name!r} has ended: out of memory?") from error


_runs: list[Run] = []  # the run of this process


def _build(build: Build, machine: Machine, name: str, *arguments: Any) -> None:
    _runs.append(build_row(build, machine, name, *arguments))


def _call() -> Any:
    return _runs[0]()


def _time() -> float:
    began = time.perf_counter()
    _runs[0]()
    return time.perf_counter() - began
