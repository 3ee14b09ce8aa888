"""What the tables must say: the targets for an H100, as figures of one run."""

from typing import Any, NamedTuple

Tables = dict[str, dict[str, dict[str, Any]]]  # title, name of the row, its figures


class Target(NamedTuple):
    """A target and what was measured; None where it was not."""

    text: str
    measured: float | None
    met: bool | None


def _fastest(tables: Tables, title: str, *names: str) -> dict[str, Any]:
    """The row of the smallest time of those that there are, or nothing."""
    rows = [tables.get(title, {}).get(name, {}) for name in names]
    return min((row for row in rows if "ms" in row), key=lambda row: row["ms"], default={})


def _ratio(a: dict[str, Any], b: dict[str, Any]) -> float | None:
    return a["ms"] / b["ms"] if a and b else None


def _most(text: str, measured: float | None, bound: float) -> Target:
    return Target(f"{text}: at most {bound:g}", measured, None if measured is None else measured <= bound)


def _least(text: str, measured: float | None, bound: float) -> Target:
    return Target(f"{text}: at least {bound:g}", measured, None if measured is None else measured >= bound)


def judge(tables: Tables) -> list[Target]:
    """Each target with what was measured."""
    one = "Inference, 1 × 800×1344, 100 proposals"
    graph = _fastest(tables, one, "bf16, CUDA graph", "bf16, compiled")
    published = _fastest(tables, one, "published style, as published")
    sixteen = "Training step, 16 × 800×1344, 100 proposals"
    step = _fastest(tables, sixteen, "bf16, eager", "bf16, model as CUDA graphs", "bf16, compiled")
    published_step = _fastest(tables, sixteen, "published style, as published")
    roi = "RoIAlign, 16 × 800×1344, 100 boxes, forward and backward"
    kernel = _fastest(tables, roi, "torchvision's roi_align per level")
    ours = _fastest(tables, roi, "pyramid_roi_align, channels last")
    return [
        _most("inference of 1 image, bf16, CUDA graph, ms", graph.get("ms"), 6),
        _least("the same, times as fast as the published style", _ratio(published, graph), 4),
        _least("training step of 16 images, bf16, images/s", step.get("images/s"), 80),
        _least("the same, times as fast as the published style", _ratio(published_step, step), 2),
        _least("the same, the GPU works, %", step.get("busy, %"), 90),
        _most("the same, how often the host waits", step.get("host waits"), 1),
        _least("RoIAlign with backward, times as fast as torchvision's kernel", _ratio(kernel, ours), 1),
    ]
