"""Measures one row at a time: time, kernels, working time of the GPU, memory, waits."""

import contextlib
import gc
import statistics
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd import DeviceType

from parts.measuring import Machine, Run, Table

FAILED = "failed"  # the column with the reason


def measure_row(
    name: str,
    build: Callable[[], Run],
    machine: Machine,
    images: int = 0,
    difference: Callable[[Any], str] | None = None,
) -> dict[str, Any]:
    """The figures of a row. If it fails, the row has the reason, and the other rows go on.

    Args:
        name: The name of the row.
        build: A function that makes the run. Its memory is released at the end.
        machine: The device and the number of repeats.
        images: The number of images of one call.
        difference: A function from the result of a call to the column "difference".
    """
    row: dict[str, Any] = {"": name}
    try:
        if machine.device.type == "cuda":
            _attach_profiler()
            torch.cuda.reset_peak_memory_stats()
        began = time.perf_counter()
        run = build()
        for _ in range(1 if machine.tiny else 3):  # choice of kernels, compilers, recording of graphs
            run()
        _finish(machine)
        row["first calls, s"] = time.perf_counter() - began
        seconds = statistics.median(_seconds(run, machine) for _ in range(machine.repeats))
        row["ms"] = 1000 * seconds
        if images:
            row["images/s"] = images / seconds
        if difference is not None:
            row["difference"] = difference(run())
        if machine.device.type == "cuda":
            # Of all calls: a CUDA graph takes its memory when it is recorded, not when it is replayed.
            row["peak GB"] = torch.cuda.max_memory_allocated() / 1e9
            row["host waits"] = _host_waits(run)
            row |= _kernels(run, seconds)
    except Exception as error:
        row[FAILED] = f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0][:200]}"
    run = None  # type: ignore[assignment]
    gc.collect()
    if machine.device.type == "cuda":
        with contextlib.suppress(RuntimeError):  # after some errors, every call fails; the next rows say so
            torch.cuda.empty_cache()
    return row


class FromTheFirst:
    """The largest difference of scores from the first row, for rows whose result is logits."""

    def __init__(self) -> None:
        self.expected: Tensor | None = None

    def __call__(self, logits: Tensor) -> str:
        """The difference as text. The first call sets the reference."""
        scores = logits.float().sigmoid()
        if self.expected is None:
            self.expected = scores.clone()
        return f"{(scores - self.expected).abs().max().item():.0e}"


def with_ratios(title: str, rows: list[dict[str, Any]], note: str = "") -> Table:
    """A table with ratios to the first row that did not fail."""
    first = next((row["ms"] for row in rows if "ms" in row), None)
    for row in rows:
        if first is not None and "ms" in row:
            row["times as fast"] = first / row["ms"]
    return Table(title, rows, note)


def growing(
    title: str,
    builds: Mapping[str, Callable[[], Run]],
    machine: Machine,
    images: int = 0,
    difference: Callable[[Any], str] | None = None,
    note: str = "",
) -> Iterator[Table]:
    """The table after each row: what was measured stays when time ends. The arguments are `measure_row`'s."""
    rows: list[dict[str, Any]] = []
    for name, build in builds.items():
        rows.append(measure_row(name, build, machine, images, difference))
        yield with_ratios(title, rows, note)


def _host_waits(run: Run) -> int:
    """The number of times that the host waits for the GPU in one call."""
    torch.cuda.synchronize()
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            run()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    torch.cuda.synchronize()
    return sum("called a synchronizing" in str(warning.message) for warning in seen)


@cache
def _attach_profiler() -> None:
    """A first, empty profile.

    The profiler stays attached after its first use, and makes later calls a little slower. So all rows are
    timed after one.
    """
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]):
        torch.zeros(1, device="cuda").add_(1)
        torch.cuda.synchronize()


def _kernels(run: Run, seconds: float) -> dict[str, Any]:
    """The number of kernels and copies of one call, and the share of its time in which at least one runs."""
    activities = [torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities) as profiled:
        run()
        torch.cuda.synchronize()
    spans = sorted(
        (event.time_range.start, event.time_range.end)
        for event in profiled.events() or []
        if event.device_type == DeviceType.CUDA and not event.is_user_annotation
    )
    if not spans:  # where the driver lets nobody profile
        return {}
    busy = length_of_union(spans) / 1e6
    return {"kernels": len(spans), "busy, %": min(100.0, 100 * busy / seconds)}


def length_of_union(spans: list[tuple[float, float]]) -> float:
    """The length of the union of sorted spans."""
    covered, reached = 0.0, float("-inf")
    for start, end in spans:
        covered += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return covered


def _finish(machine: Machine) -> None:
    if machine.device.type == "cuda":
        torch.cuda.synchronize()


def _seconds(run: Run, machine: Machine) -> float:
    _finish(machine)
    began = time.perf_counter()
    run()
    _finish(machine)
    return time.perf_counter() - began
