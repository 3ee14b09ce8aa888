"""Processes that read images for another process, and how they end."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Generator
from multiprocessing.connection import wait
from typing import Any

from torch.utils.data import DataLoader

LAST_SECONDS = 600  # the time between a SIGTERM and the end of a reader: longer than any step


def at_most_one_a_core(workers: int) -> int:
    """A default number of readers for this machine. PyTorch warns if there are more."""
    return min(workers, cores_of_a_process())


def cores_of_a_process() -> int:
    """The number of cores for each process of torchrun on this machine, at least 1."""
    # The cores that this process may use, where the system says so.
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


def outlive_signals(worker: int) -> None:
    """A DataLoader's `worker_init_fn`. The reader ignores signals and ends with the process that it serves.

    Ctrl-C, torchrun and Slurm signal all processes at once. The training process first finishes its step, and
    needs its readers for that.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: signal.alarm(LAST_SECONDS))
    end_with_parent()


def end_with_parent() -> None:
    """Ends this process as soon as the process that started it has ended."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        # torch watches the parent's id. With a fork server, that is the id of another process.
        threading.Thread(target=_end_after, args=(parent.sentinel,), daemon=True).start()


def read_all(loader: DataLoader) -> Generator[Any, None, None]:
    """The batches of a loader. Closing this generator ends its workers."""
    yield from loader


def _end_after(sentinel: int) -> None:
    wait([sentinel])
    os._exit(1)
