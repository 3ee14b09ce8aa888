"""Runs a detector on a data set. The detections come as COCO results."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, Dataset

from sparse_rcnn.data.evaluation.coco_results import coco_results
from sparse_rcnn.data.formats.detection_dataset import DetectionDataset
from sparse_rcnn.data.image_file import UnreadableImageError
from sparse_rcnn.data.loading.collate import Batch, collate
from sparse_rcnn.data.target import Target
from sparse_rcnn.inference.batch import Detect, detect_batch
from sparse_rcnn.inference.finite import NotFiniteError
from sparse_rcnn.ops.argument_checks import whole_number

__all__ = ["detect_dataset"]


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
    worker_init_fn: Callable[[int], None] | None = None,
    watch: Callable[[Iterable[Any]], Iterable[Any]] = iter,
) -> list[dict[str, Any]]:
    """Detects objects in a data set, or in this process's share of its batches.

    Processes share whole batches. So an image has the same neighbours and the same padding with any number of
    processes, and its results are the same to the last digit.

    Args:
        detect: The detector, as for `detect_batch`.
        dataset: The images.
        device: The device of the detector.
        batch_size: Images in a batch.
        workers: Processes that read images.
        rank: The number of this process.
        world_size: The number of processes. Each takes every `world_size`-th batch.
        unreadable: A dict that gets the id and the problem of each image that cannot be read. Such images are
            left out. Without it, the first one is an error.
        category_ids: The category id of each label. None leaves a label out. The default is that of the data
            set.
        worker_init_fn: Called in each process that reads, as by a `DataLoader`.
        watch: A function that gets the batches and returns them, such as a progress bar.

    Returns:
        One dict per detection, as from `coco_results`.

    Raises:
        UnreadableImageError: If an image cannot be read, and `unreadable` is not given.
        NotFiniteError: If boxes or scores are not finite. The message names the images.

    Example:
        >>> from sparse_rcnn.data import DetectionDataset
        >>> def detect(images, sizes):
        ...     return torch.tensor([[[9.0, 9.0, 90.0, 90.0]]]), torch.tensor([[0.5]]), torch.tensor([[0]])
        >>> dataset = DetectionDataset.from_boxes(["photo.jpg"], [[]], [[]], ["cat"])
        >>> detect_dataset(detect, dataset, torch.device("cpu"))
        [{'image_id': 1, 'category_id': 1, 'bbox': [9.0, 9.0, 81.0, 81.0], 'score': 0.5}]
    """
    batch_size, workers = whole_number("batch_size", batch_size), whole_number("workers", workers, 0)
    batches = list(BatchSampler(range(len(dataset)), batch_size, drop_last=False))
    loader = DataLoader(
        _WithProblems(dataset),
        batch_sampler=batches[rank::world_size],
        collate_fn=_collate,
        num_workers=workers,
        worker_init_fn=worker_init_fn,
        generator=torch.Generator(),  # its own one: evaluation does not change that of the training
        pin_memory=device.type == "cuda",
    )
    ids = dataset.category_ids if category_ids is None else category_ids
    results = []
    for batch, problems in watch(loader):
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
                raise NotFiniteError(f"{images}: {error}") from error
            results += coco_results(detections, batch.image_ids, ids)
    return results


class _WithProblems(Dataset[Any]):
    """Samples of a data set. An image that cannot be read gives its id and the problem."""

    def __init__(self, dataset: DetectionDataset) -> None:
        self.dataset = dataset

    def __getitem__(self, index: int) -> tuple[Tensor, Target] | tuple[int, str]:
        try:
            return self.dataset[index]
        except UnreadableImageError as error:
            return self.dataset.image_ids[index], str(error)


def _collate(samples: Sequence[tuple[Any, Any]]) -> tuple[Batch | None, dict[int, str]]:
    """A batch of the images that could be read, if there are any, and the problems of the others."""
    problems = {first: second for first, second in samples if isinstance(second, str)}
    readable = [(first, second) for first, second in samples if not isinstance(second, str)]
    return collate(readable) if readable else None, problems
