"""Endless batches for training. The images of a step do not depend on the number of processes.

The stream is one epoch after the other, and each epoch is a permutation of all images. Images of the same
orientation (landscape or portrait) form groups, as published (detectron2's `AspectRatioGroupedDataset`). No
image is left out at the end of an epoch. A step takes the next `batch_size` images of the stream, and the
processes share them. So the images of a step depend on (seed, step) alone.
"""

from collections.abc import Iterator, Sequence
from itertools import count, islice
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.data import Sampler

from sparse_rcnn.ops.argument_checks import whole_number

__all__ = ["Draw", "TrainingSampler"]


class Draw(NamedTuple):
    """One image of the stream.

    Attributes:
        image_index: The index of the image in its data set.
        epoch: The epoch of the draw, from 0. Augmentation depends on the index and the epoch.
        share: The share of the training that is over at this step, in 0..1, for `AugmentedDataset`. The
            sampler does not know it: see there.

    Example:
        >>> next(iter(TrainingSampler([(480, 640)] * 4, batch_size=2)))[0]
        Draw(image_index=..., epoch=0, share=0.0)
    """

    image_index: int
    epoch: int
    share: float = 0.0


class TrainingSampler(Sampler[list[Draw]]):
    """The batches of one process. Give it to a `DataLoader` as `batch_sampler`, over a `SeededDataset`.

    Each step yields `accumulation` batches of `batch_size / (world_size * accumulation)` draws. Landscape
    images come first in a step. So most batches have one orientation and need little padding.

    Args:
        image_sizes: (height, width) of every image of the data set in pixels.
        batch_size: Images per step, over all processes and batches.
        seed: The seed of the order.
        rank: The number of this process.
        world_size: The number of processes.
        accumulation: Batches per step and process.
        group_size: The number of images in a group of one orientation. The published recipe has 2 on each of
            8 devices. A larger number needs less padding on few devices, and changes the images of a step.
        start: The first step. Earlier steps are skipped without reading images (about two seconds for 36
            epochs of COCO).

    Raises:
        ValueError: If there is no image, a number is out of range, or the batch cannot be shared evenly.

    Example:
        >>> sampler = TrainingSampler([(480, 640)] * 4, batch_size=2)
        >>> len(next(iter(sampler)))
        2
    """

    def __init__(
        self,
        image_sizes: Sequence[tuple[int, int]],
        batch_size: int,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        accumulation: int = 1,
        group_size: int = 2,
        start: int = 0,
    ) -> None:
        if len(image_sizes) == 0:
            raise ValueError("image_sizes must have at least one image, got none")
        batch_size = whole_number("batch_size", batch_size)
        world_size = whole_number("world_size", world_size)
        accumulation = whole_number("accumulation", accumulation)
        group_size = whole_number("group_size", group_size)
        start, seed = whole_number("start", start, 0), whole_number("seed", seed, 0)
        if not 0 <= rank < world_size:
            raise ValueError(f"rank must be in 0..{world_size - 1}, got {rank}")
        if batch_size % (world_size * accumulation) != 0:
            raise ValueError(
                f"a batch of {batch_size} images cannot be shared by {world_size} processes "
                f"in {accumulation} parts each: batch_size must be a multiple of {world_size * accumulation}"
            )
        if batch_size % group_size != 0:
            raise ValueError(
                f"batch_size must be a multiple of group_size, got {batch_size} and {group_size}"
            )
        self._is_portrait = [height >= width for height, width in image_sizes]
        self._batch_size = batch_size
        self._seed = seed
        self._rank = whole_number("rank", rank, 0)
        self._world_size = world_size
        self._accumulation = accumulation
        self._group_size = group_size
        self._start = start

    def __iter__(self) -> Iterator[list[Draw]]:
        share = self._batch_size // (self._world_size * self._accumulation)
        groups_per_step = self._batch_size // self._group_size
        groups = islice(self._groups(), self._start * groups_per_step, None)
        while True:
            step = [draw for group in islice(groups, groups_per_step) for draw in group]
            step.sort(key=lambda draw: self._is_portrait[draw.image_index])  # stable
            for part in range(self._accumulation):
                # Neighbours go to different processes at the same time, so all need about the same time.
                first = (part * self._world_size + self._rank) * share
                yield step[first : first + share]

    def _groups(self) -> Iterator[list[Draw]]:
        waiting: dict[bool, list[Draw]] = {False: [], True: []}
        for epoch in count():
            # SeedSequence mixes the two numbers. A sum would repeat, and torch uses only 32 bits of a seed.
            word = np.random.SeedSequence((self._seed, epoch)).generate_state(1)[0]
            generator = torch.Generator().manual_seed(int(word))
            for index in torch.randperm(len(self._is_portrait), generator=generator).tolist():
                group = waiting[self._is_portrait[index]]
                group.append(Draw(index, epoch))
                if len(group) == self._group_size:
                    yield group.copy()
                    group.clear()
