"""The batches of a run, in their order, on the device."""

import argparse
import math
import warnings
from collections.abc import Generator, Iterable, Iterator
from functools import partial

import torch
from torch import nn
from torch.utils.data import DataLoader

from parts.reader import cores_of_a_process, outlive_signals, read_all
from parts.training.processes import Processes
from parts.training.readable_samples import ReadableSamples, collate_readable
from parts.training.recipe import LIGHT_EPOCHS, LIGHT_STEPS
from sparse_rcnn.data import (
    AugmentedDataset,
    Batch,
    DetectionDataset,
    Draw,
    SeededDataset,
    Targets,
    TrainingSampler,
    strong_transform,
)

# A batch, and the problems with images that could not be read.
Batches = Generator[tuple[Batch, list[str]], None, None]


def open_batches(
    arguments: argparse.Namespace, dataset: DetectionDataset, processes: Processes, start: int
) -> Batches:
    """Endless batches of this process, from a step on. Closing them ends the processes that read images.

    The seed and the step alone decide which images come and how they are augmented, and with --minutes the
    share of the time that is spent, too.
    """
    if arguments.workers > (cores := cores_of_a_process()):
        warnings.filterwarnings("ignore", "This DataLoader will create")  # PyTorch prints it in every process
        if processes.rank == 0:
            print(
                f"--workers {arguments.workers} is more than the {cores} cores of a process: "
                "reading may be slower"
            )
    sampler = TrainingSampler(
        dataset.image_sizes,
        arguments.batch_size,
        arguments.seed,
        processes.rank,
        processes.world_size,
        arguments.accumulate,
        arguments.group_size,
        start,
    )
    loader = DataLoader(
        ReadableSamples(augmented(dataset, arguments)),
        batch_sampler=with_shares(sampler, arguments, start),
        # The number of targets is a multiple of 16: few shapes, not one for every number of objects.
        collate_fn=partial(collate_readable, target_divisor=16 if arguments.compile else 1),
        num_workers=arguments.workers,
        worker_init_fn=outlive_signals,
        generator=torch.Generator(),  # not the global one, whose state is in checkpoints
        pin_memory=processes.device.type == "cuda",
    )
    return read_all(loader)


def augmented(dataset: DetectionDataset, arguments: argparse.Namespace) -> SeededDataset:
    """The training set with its augmentation. Strong augmentation ends before the run."""
    if arguments.augmentation not in ("late", "strong"):
        return SeededDataset(dataset, arguments.seed)
    transform = strong_transform(tuple(arguments.sizes), arguments.max_size, arguments.vertical_flip)
    light = max(LIGHT_EPOCHS, LIGHT_STEPS * arguments.batch_size / len(dataset))
    first = math.ceil(light) if arguments.augmentation == "late" else 0
    return AugmentedDataset(dataset, arguments.seed, transform, 0.9, 0.5, first_epoch=first)


def with_shares(
    batches: Iterable[list[Draw]], arguments: argparse.Namespace, start: int
) -> Iterator[list[Draw]]:
    """Draws with the share of the run that is over at their step, where augmentation gets lighter.

    With --minutes, the expected number of steps changes as the run goes on. So the share is of what is
    expected when the images are asked for, with or without workers.
    """
    for number, draws in enumerate(batches):
        share = (start + number // arguments.accumulate) / max(1, arguments.iterations)
        yield [draw._replace(share=share) for draw in draws]


def take_step(
    batches: Batches, arguments: argparse.Namespace, processes: Processes
) -> tuple[list[Batch], list[str]]:
    """The batches of this process for the next step, one for each of --accumulate parts, and the problems."""
    taken = [next(batches) for _ in range(arguments.accumulate)]
    parts = [move(batch, processes.device) for batch, _ in taken]
    if arguments.pad_alike:
        own = [max(batch.images.shape[side] for batch in parts) for side in (2, 3)]
        height, width = map(max, zip(*processes.gather(own), strict=True))
        parts = [pad(batch, height, width) for batch in parts]
    return parts, [problem for _, problems in taken for problem in problems]


def move(batch: Batch, device: torch.device) -> Batch:
    """Images, sizes and targets on the device."""
    return batch._replace(
        images=batch.images.to(device, non_blocking=True),
        image_sizes=batch.image_sizes.to(device, non_blocking=True),
        targets=Targets(*(part.to(device, non_blocking=True) for part in batch.targets)),
    )


def pad(batch: Batch, height: int, width: int) -> Batch:
    """The batch with images of at least this height and width in pixels. The padding is 0."""
    missing = (0, max(0, width - batch.images.shape[3]), 0, max(0, height - batch.images.shape[2]))
    return batch._replace(images=nn.functional.pad(batch.images, missing))
