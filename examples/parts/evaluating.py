"""A data set through a detector, as scripts do it: they show how far it is."""

import importlib.util
import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch

from parts.progress import progress
from parts.reader import outlive_signals
from sparse_rcnn.data import DetectionDataset
from sparse_rcnn.inference import Detect
from sparse_rcnn.inference import detect_dataset as detect_quietly


def can_evaluate(evaluator: str = "pycocotools") -> bool:
    """Whether what `evaluate_coco` needs is installed."""
    return importlib.util.find_spec(evaluator) is not None


def detect_dataset(
    detect: Detect,
    dataset: DetectionDataset,
    device: torch.device,
    batch_size: int = 1,
    workers: int = 0,
    rank: int = 0,
    world_size: int = 1,
    unreadable: dict[int, str] | None = None,
    category_ids: Sequence[int | None] | None = None,
) -> list[dict[str, Any]]:
    """The library's ``detect_dataset``, with progress on a terminal and readers that outlive signals."""
    share = (rank, world_size, unreadable, category_ids, outlive_signals)
    watch = partial(progress, rank=rank, desc="evaluating", unit="batch")
    return detect_quietly(detect, dataset, device, batch_size, workers, *share, watch)


def without_nan(values: Any) -> Any:
    """None for a metric without a value, such as the AP of an absent class: JSON has no NaN."""
    if isinstance(values, dict):
        return {key: without_nan(value) for key, value in values.items()}
    if isinstance(values, (list, tuple)):
        return [without_nan(value) for value in values]
    return None if isinstance(values, float) and not math.isfinite(values) else values
