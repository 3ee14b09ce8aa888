"""Rows of a table in processes of their own: none meets the memory that another has left behind."""

import multiprocessing
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from typing import Any

from host_memory import keep_freed_memory
from measuring import Machine, Run

MEMORY_KEPT = ", memory kept"  # in the name of a row: as train.py, evaluate.py and detect.py do on a CPU
Build = Callable[..., Run]  # of machine and name of the row, and what else it needs


def rows_on(machine: Machine, names: Iterable[str]) -> list[str]:
    """The rows that differ on this machine: a GPU's memory is kept by PyTorch in all of them."""
    if machine.device.type == "cuda":
        names = dict.fromkeys(name.replace(MEMORY_KEPT, "") for name in names)
    return [name for name in names if machine.compiled or "compiled" not in name]


def build_row(build: Build, machine: Machine, name: str, *arguments: Any) -> Run:
    """The run of a row, in this process, which is for this row alone if its name says that memory is kept."""
    if MEMORY_KEPT in name:
        keep_freed_memory()
    return build(machine, name, *arguments)


def own_process(build: Build, machine: Machine, name: str, *arguments: Any) -> Run:
    """The run of a row, which does its work in a process of its own until nobody refers to it any more.

    On a GPU there is only one process: several would keep its memory from each other.
    """
    if machine.device.type == "cuda":
        return build_row(build, machine, name, *arguments)
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(1, context, _start, (build, machine, name, *arguments))
    return lambda: pool.submit(_call).result()


_runs: list[Run] = []  # the one of this process


def _start(build: Build, machine: Machine, name: str, *arguments: Any) -> None:
    _runs.append(build_row(build, machine, name, *arguments))


def _call() -> Any:
    return _runs[0]()
