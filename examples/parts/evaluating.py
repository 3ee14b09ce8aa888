"""Evaluation as scripts do it: they show how far it is."""

import importlib.util
import math
from functools import partial
from typing import Any

from parts.progress import progress
from parts.reader import outlive_signals


def can_evaluate(evaluator: str = "pycocotools") -> bool:
    """Whether what `evaluate_coco` needs is installed."""
    return importlib.util.find_spec(evaluator) is not None


def shown(rank: int = 0) -> dict[str, Any]:
    """Options of ``detect_dataset``: progress on a terminal, and readers that outlive signals."""
    watch = partial(progress, rank=rank, desc="evaluating", unit="batch")
    return {"rank": rank, "worker_init_fn": outlive_signals, "watch": watch}


def without_nan(values: Any) -> Any:
    """None for a metric without a value, such as the AP of an absent class: JSON has no NaN."""
    if isinstance(values, dict):
        return {key: without_nan(value) for key, value in values.items()}
    if isinstance(values, (list, tuple)):
        return [without_nan(value) for value in values]
    return None if isinstance(values, float) and not math.isfinite(values) else values
