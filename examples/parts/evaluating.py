"""Runs a detector on a data set. The result is a list of COCO results."""

import importlib.util
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, Dataset

from parts.detector_file import Detect, detect_batch
from parts.finite import NotFiniteError
from parts.progress import progress
from parts.reader import outlive_signals
from sparse_rcnn.data import (
    Batch,
    DetectionDataset,
    Target,
    UnreadableImageError,
    coco_results,
    collate,
)


def can_evaluate() -> bool:
    """Whether pycocotools is installed, which `evaluate_coco` needs."""
    return importlib.util.find_spec("pycocotools") is not None


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
    """COCO results of every `world_size`-th batch of a data set.

    Processes share whole batches, so the results do not depend on the number of processes. The padding of an
    image depends on the other images of its batch, and the last digits of its results depend on the padding.

    Args:
        detect: The detector.
        dataset: The images.
        device: The device of the detector.
        batch_size: Images per batch.
        workers: Processes that read images.
        rank: The number of this process.
        world_size: The number of processes.
        unreadable: It gets the id and the problem of each image that cannot be read. Such images are left
            out. Without it, the first of them is an error.
        category_ids: The category id of each label. None leaves a label out. The default is those of the data
            set.

    Raises:
        UnreadableImageError: If an image cannot be read and `unreadable` is not given.
        ValueError: If boxes or scores are not finite (`refuse_not_finite`). The message names the images.
    """
    batches = list(BatchSampler(range(len(dataset)), batch_size, drop_last=False))
    loader = DataLoader(
        _WithProblems(dataset),
        batch_sampler=batches[rank::world_size],
        collate_fn=_collate,
        num_workers=workers,
        worker_init_fn=outlive_signals,
        generator=torch.Generator(),  # its own generator: an evaluation must not change training
        pin_memory=device.type == "cuda",
    )
    ids = dataset.category_ids if category_ids is None else category_ids
    results = []
    for batch, problems in progress(loader, rank, desc="evaluating", unit="batch"):
        if problems and unreadable is None:
            raise UnreadableImageError(next(iter(problems.values())))
        elif unreadable is not None:
            unreadable.update(problems)
        if batch is not None:
            try:
                detections = detect_batch(detect, batch, device)
            except NotFiniteError as error:
                paths = dict(zip(dataset.image_ids, dataset.image_paths, strict=True))
                images = ", ".join(paths[image] for image in batch.image_ids.tolist())
                raise ValueError(f"{images}: {error}") from error
            results += coco_results(detections, batch.image_ids, ids)
    return results


def without_nan(values: Any) -> Any:
    """None for a metric without a value, such as the AP of an absent class: JSON has no NaN."""
    if isinstance(values, dict):
        return {key: without_nan(value) for key, value in values.items()}
    if isinstance(values, list):
        return [without_nan(value) for value in values]
    return None if isinstance(values, float) and not math.isfinite(values) else values


class _WithProblems(Dataset[Any]):
    """Samples of a data set. For an image that cannot be read, its id and the problem."""

    def __init__(self, dataset: DetectionDataset) -> None:
        self.dataset = dataset

    def __getitem__(self, index: int) -> tuple[Tensor, Target] | tuple[int, str]:
        try:
            return self.dataset[index]
        except UnreadableImageError as error:
            return self.dataset.image_ids[index], str(error)


def _collate(samples: Sequence[tuple[Any, Any]]) -> tuple[Batch | None, dict[int, str]]:
    """A batch of the images that could be read, if any, and the problems with the others."""
    problems = {first: second for first, second in samples if isinstance(second, str)}
    readable = [(first, second) for first, second in samples if not isinstance(second, str)]
    return collate(readable) if readable else None, problems
