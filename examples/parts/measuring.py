"""Measurements of benchmark.py and export.py: variants of a computation take turns and form tables."""

import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

Run = Callable[[], Any]


class Machine(NamedTuple):
    """The device, and how often everything is measured."""

    device: torch.device
    repeats: int
    compiled: bool  # whether compiled variants are measured, too
    tiny: bool  # small inputs, only to check that the script runs


class Table(NamedTuple):
    """Rows of one comparison. Ratios refer to the first row."""

    title: str
    rows: list[dict[str, Any]]
    note: str = ""


def take_turns(runs: dict[str, Run], repeats: int, device: torch.device) -> dict[str, float]:
    """The median seconds of each run. After a round of warm-up, all run once in each of `repeats` rounds."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for round_number in range(repeats + 1):
        for name, run in runs.items():
            elapsed = _seconds(run, device)
            if round_number > 0:
                seconds[name].append(elapsed)
            elif device.type == "cuda":
                run()  # CUDA graphs are recorded in the second call
    return {name: statistics.median(times) for name, times in seconds.items()}


def _seconds(run: Any, device: torch.device) -> float:
    if hasattr(run, "seconds"):  # another process measures it
        elsewhere: float = run.seconds()
        return elsewhere
    if device.type == "cuda":
        torch.cuda.synchronize()
    began = time.perf_counter()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - began


def matrix_products(machine: Machine) -> tuple[dict[str, Run], float]:
    """A matrix product in each type, as more runs, and its number of FLOPs."""
    size = 256 if machine.tiny else 8192 if machine.device.type == "cuda" else 2048
    a = torch.randn(size, size, device=machine.device)
    b = a.bfloat16()
    return {"float32 product": lambda: a @ a, "bfloat16 product": lambda: b @ b}, 2.0 * size**3


def count_flops(run: Run) -> float:
    """FLOPs of matrix products, convolutions and attention. A multiplication and an addition count as two."""
    # Attention in its plain form, since the counter does not know the fused kernels of a CPU.
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        run()
    torch.backends.mha.set_fastpath_enabled(fast)
    return float(counter.get_total_flops())


def compare(
    title: str,
    runs: dict[str, Run],
    machine: Machine,
    images: int = 0,
    flops: float = 0.0,
    errors: dict[str, str] | None = None,
    note: str = "",
) -> Table:
    """A table of all runs. They take turns with matrix products. Ratios refer to the first run."""
    products, product_flops = matrix_products(machine)
    seconds = take_turns({**runs, **products}, machine.repeats, machine.device)
    first = seconds[next(iter(runs))]
    rows = []
    for name in runs:
        row: dict[str, Any] = {"": name, "ms": 1000 * seconds[name], "times as fast": first / seconds[name]}
        if images:
            row["images/s"] = images / seconds[name]
        kind = "bfloat16" if "bf16" in name else "float32"
        if flops:
            own = "torchvision" not in name
            floor = flops * seconds[f"{kind} product"] / product_flops
            row["over floor"] = seconds[name] / floor if own else None
        if errors:
            row["difference"] = errors.get(name)
        rows.append(row)
    rates = {name: product_flops / seconds[name] / 1e9 for name in products}
    rate = ", ".join(f"{name} {value:.0f} GFLOP/s" for name, value in rates.items())
    work = f"{flops / 1e9:.0f} GFLOP; " if flops else ""
    return Table(title, rows, f"{work}{rate}{'; ' + note if note else ''}")


def to_markdown(table: Table) -> str:
    """The table with its title and note. Numbers have three significant digits."""
    columns = list(dict.fromkeys(key for row in table.rows for key in row))
    lines = [f"### {table.title}", ""]
    lines.append("| " + " | ".join(columns) + " |")
    lines.append("|" + " --- |" * len(columns))
    lines += ["| " + " | ".join(_cell(row.get(column)) for column in columns) + " |" for row in table.rows]
    if table.note:
        lines += ["", f"{table.note}."]
    return "\n".join(lines) + "\n"


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.0f}" if value >= 100 else f"{value:.3g}"
    return "" if value is None else str(value)
