"""Evaluation by all processes together."""

import math
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from parts.detector_file import Detect
from parts.evaluating import can_evaluate, detect_dataset
from parts.training.processes import Processes
from parts.training.stop import Stop, StopRequestedError
from sparse_rcnn.data import DetectionDataset, UnreadableImageError, evaluate_coco
from sparse_rcnn.data.evaluation.coco_metrics import SUMMARY


def detect_together(
    model: nn.Module,
    detect: Detect,
    dataset: DetectionDataset,
    batch_size: int,
    workers: int,
    processes: Processes,
    stop: Stop,
) -> list[dict[str, Any]]:
    """COCO results of a whole data set on rank 0, of none elsewhere.

    The batches are the same however many processes share them, and so are the results.

    Raises:
        StopRequestedError: On all processes, if one of them has been asked to stop.
        UnreadableImageError: On all processes, if one of them met an image that cannot be read.
    """
    processes.copy_first(model.buffers())  # batch norm has statistics of its own on every rank
    model.eval()

    def detect_unless_stopped(images: Tensor, image_sizes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        stop.raise_if_requested()
        return detect(images, image_sizes)

    found: list[dict[str, Any]] = []
    problem = ""
    try:
        found = detect_dataset(
            detect_unless_stopped,
            dataset,
            processes.device,
            batch_size,
            workers,
            processes.rank,
            processes.world_size,
        )
    except (StopRequestedError, UnreadableImageError) as error:
        problem = str(error).strip().splitlines()[-1]
    # Nobody waits for results of a process that has none: all learn first how it went.
    outcomes = processes.gather((bool(stop), problem))
    if any(stopped for stopped, _ in outcomes):
        raise StopRequestedError("stopped in an evaluation")
    if problems := [text for _, text in outcomes if text]:
        raise UnreadableImageError(problems[0])
    return [result for share in processes.gather_to_first(found) for result in share]


def metrics_of(dataset: DetectionDataset, results: Sequence[dict[str, Any]]) -> dict[str, float]:
    """COCO's figures; without pycocotools, NaN for each of them: a run of days does not end for that."""
    if not can_evaluate():
        return dict.fromkeys((name for name, *_ in SUMMARY), math.nan)
    return evaluate_coco(dataset, results)
