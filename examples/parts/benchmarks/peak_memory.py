"""The peak memory of a computation, with its weights."""

import ctypes
import gc
import multiprocessing
import platform
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import torch

from parts.benchmarks.own_process import Build, build_row
from parts.measuring import Machine


def peak_memory(build: Build, machine: Machine, name: str, *arguments: Any) -> float | None:
    """The peak memory of the run of a row in bytes, over several calls, with its weights.

    It is measured in its own process. On a GPU, it is PyTorch's peak of allocated memory. On a CPU, it is
    the size of all tensors that stay after a call, plus the additional memory of the next calls. Compilers
    and imported modules do not count. None if the system does not tell it, or if memory is not enough.
    """
    if machine.device.type == "cuda":  # the other process may need this memory
        gc.collect()
        torch.cuda.empty_cache()
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        try:
            return pool.submit(_peak_memory, build, machine, name, *arguments).result()
        except (OSError, BrokenProcessPool, torch.OutOfMemoryError):
            return None


def _peak_memory(build: Build, machine: Machine, name: str, *arguments: Any) -> float:
    if machine.device.type == "cuda" and machine.device.index is not None:
        torch.cuda.set_device(machine.device)
    run = build_row(build, machine, name, *arguments)
    run()
    run()  # everything that is made once exists now
    gc.collect()
    if machine.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        run()
        run()
        return float(torch.cuda.max_memory_allocated())
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)  # freed memory goes back to the system
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    stays, before = _bytes_of_tensors(), _memory("VmRSS")
    run()
    run()
    return stays + _memory("VmHWM") - before


def _bytes_of_tensors() -> float:
    storages = {}
    for thing in gc.get_objects():
        # Not the fake tensors of a compiler.
        if type(thing) in (torch.Tensor, torch.nn.Parameter) and thing.device.type == "cpu":
            for tensor in (thing, thing.grad if thing.is_leaf else None):
                if tensor is not None:
                    storage = tensor.untyped_storage()
                    storages[storage.data_ptr()] = storage.nbytes()
    return float(sum(storages.values()))


def _memory(key: str) -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key):
            return 1024.0 * int(line.split()[1])
    raise OSError(f"this system does not tell {key}")
