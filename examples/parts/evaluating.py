"""A data set through a detector: its detections as COCO results."""

import importlib.util
import math
from typing import Any

import torch
from torch.utils.data import BatchSampler, DataLoader
from tqdm import tqdm

from parts.detector_file import Detect, detect_batch
from parts.reader import outlive_signals
from sparse_rcnn.data import DetectionDataset, coco_results, collate


def can_evaluate() -> bool:
    """Whether pycocotools is installed, which ``evaluate_coco`` needs."""
    return importlib.util.find_spec("pycocotools") is not None


def detect_dataset(
    detect: Detect,
    dataset: DetectionDataset,
    device: torch.device,
    batch_size: int = 1,
    workers: int = 0,
    rank: int = 0,
    world_size: int = 1,
) -> list[dict[str, Any]]:
    """COCO results of every ``world_size``-th batch of a data set; labels become its category ids.

    Whole batches are shared: an image's padding, and with it the last digits of its results, depends on the
    others in its batch, and these do not change with the number of processes.
    """
    batches = list(BatchSampler(range(len(dataset)), batch_size, drop_last=False))
    loader = DataLoader(
        dataset,
        batch_sampler=batches[rank::world_size],
        collate_fn=collate,
        num_workers=workers,
        worker_init_fn=outlive_signals,
        generator=torch.Generator(),  # of its own: training's goes on as if nobody had looked
        pin_memory=device.type == "cuda",
    )
    results = []
    for batch in tqdm(loader, desc="evaluating", unit="batch", leave=False, disable=rank != 0):
        detections = detect_batch(detect, batch, device)
        results += coco_results(detections, batch.image_ids, dataset.category_ids)
    return results


def without_nan(values: Any) -> Any:
    """None for what has no value, such as the AP of an absent class: JSON knows neither NaN nor infinity."""
    if isinstance(values, dict):
        return {key: without_nan(value) for key, value in values.items()}
    if isinstance(values, list):
        return [without_nan(value) for value in values]
    return None if isinstance(values, float) and not math.isfinite(values) else values
