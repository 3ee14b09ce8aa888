"""The targets for an H100, and whether the tables of a run meet them."""

from typing import Any, NamedTuple

from parts.benchmarks.gpu import inference, operations, training
from parts.benchmarks.gpu.switches import AS_PUBLISHED
from parts.benchmarks.inputs import PUBLISHED
from parts.benchmarks.roi import PER_LEVEL

Tables = dict[str, dict[str, dict[str, Any]]]  # title, name of the row, its figures


class Target(NamedTuple):
    """A target and the measured value. None if it was not measured."""

    text: str
    measured: float | None
    met: bool | None


def _fastest(tables: Tables, title: str, *names: str) -> dict[str, Any]:
    """The fastest of these rows. Empty if none was measured."""
    rows = [tables.get(title, {}).get(name, {}) for name in names]
    return min((row for row in rows if "ms" in row), key=lambda row: row["ms"], default={})


def _ratio(a: dict[str, Any], b: dict[str, Any]) -> float | None:
    return a["ms"] / b["ms"] if a and b else None


def _most(text: str, measured: float | None, bound: float) -> Target:
    return Target(f"{text}: at most {bound:g}", measured, None if measured is None else measured <= bound)


def _least(text: str, measured: float | None, bound: float) -> Target:
    return Target(f"{text}: at least {bound:g}", measured, None if measured is None else measured >= bound)


def judge(tables: Tables) -> list[Target]:
    """All targets with their measured values."""
    as_published = f"{PUBLISHED}, {AS_PUBLISHED}"
    one = inference.TITLE.format(1, 800, 1344, 100)
    graph = _fastest(tables, one, "bf16, CUDA graph", "bf16, compiled")
    published = _fastest(tables, one, as_published)
    sixteen = training.TITLE.format(16, 800, 1344)
    step = _fastest(tables, sixteen, "bf16, eager", f"bf16, {training.GRAPHS}", "bf16, compiled")
    published_step = _fastest(tables, sixteen, as_published)
    roi = operations.ROI_TITLE.format(16, 800, 1344, 100, " and backward")
    kernel = _fastest(tables, roi, PER_LEVEL)
    ours = _fastest(tables, roi, operations.CHANNELS_LAST)
    return [
        _most("inference of 1 image, bf16, CUDA graph, ms", graph.get("ms"), 6),
        _least("the same, times as fast as the published style", _ratio(published, graph), 4),
        _least("training step of 16 images, bf16, images/s", step.get("images/s"), 80),
        _least("the same, times as fast as the published style", _ratio(published_step, step), 2),
        _least("the same, the GPU works, %", step.get("busy, %"), 90),
        _most("the same, how often the host waits", step.get("host waits"), 1),
        _least("RoIAlign with backward, times as fast as torchvision's kernel", _ratio(kernel, ours), 1),
    ]
