"""A data set through a detector: its detections as COCO results."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, Dataset

from sparse_rcnn.data.evaluation.coco_metrics import coco_results
from sparse_rcnn.data.formats.detection_dataset import DetectionDataset
from sparse_rcnn.data.image_file import UnreadableImageError
from sparse_rcnn.data.loading.collate import Batch, collate
from sparse_rcnn.data.target import Target
from sparse_rcnn.inference.batch import Detect, detect_batch
from sparse_rcnn.inference.finite import NotFiniteError

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
    """COCO results of every ``world_size``-th batch of a data set.

    Whole batches are shared: an image's padding, and with it the last digits of its results, depends on the
    others in its batch, and these do not change with the number of processes.

    Args:
        detect: the detector.
        dataset: the images.
        device: where the detector is.
        batch_size: images in a batch.
        workers: processes that read images.
        rank: of this process.
        world_size: number of processes.
        unreadable: gets the id of each image that cannot be read, and what is wrong with it; such images are
            left out. Without it, the first one is an error.
        category_ids: of each label, None to leave it out; those of the data set unless given.

        worker_init_fn: of these processes, as of a ``DataLoader``.
        watch: gets the batches and gives them again, such as a progress bar.

    Returns:
        One dict a detection, as of ``coco_results``.

    Raises:
        UnreadableImageError: for an image that cannot be read, unless ``unreadable`` is given.
        NotFiniteError: naming the images, if the detector's figures are not finite (`refuse_not_finite`).
    """
    batches = list(BatchSampler(range(len(dataset)), batch_size, drop_last=False))
    loader = DataLoader(
        _WithProblems(dataset),
        batch_sampler=batches[rank::world_size],
        collate_fn=_collate,
        num_workers=workers,
        worker_init_fn=worker_init_fn,
        generator=torch.Generator(),  # of its own: training's goes on as if nobody had looked
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
    """Samples of a data set; for an image that cannot be read, its id and what is wrong with it."""

    def __init__(self, dataset: DetectionDataset) -> None:
        self.dataset = dataset

    def __getitem__(self, index: int) -> tuple[Tensor, Target] | tuple[int, str]:
        try:
            return self.dataset[index]
        except UnreadableImageError as error:
            return self.dataset.image_ids[index], str(error)


def _collate(samples: Sequence[tuple[Any, Any]]) -> tuple[Batch | None, dict[int, str]]:
    """A batch of the images that could be read, if any, and what is wrong with the others."""
    problems = {first: second for first, second in samples if isinstance(second, str)}
    readable = [(first, second) for first, second in samples if not isinstance(second, str)]
    return collate(readable) if readable else None, problems
