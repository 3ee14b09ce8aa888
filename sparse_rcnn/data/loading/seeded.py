"""Augmentation that depends on the seed, the epoch and the image alone.

In one epoch, an image always looks the same. The number of workers and processes does not matter, and an
interruption of training does not matter.
"""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from sparse_rcnn.data.formats.detection_dataset import DetectionDataset
from sparse_rcnn.data.loading.sampler import Draw
from sparse_rcnn.data.target import Target
from sparse_rcnn.ops.argument_checks import whole_number

__all__ = ["SeededDataset", "seeded_by"]


class SeededDataset(Dataset[tuple[Tensor, Target]]):
    """A data set whose index is a `Draw`: `seeded[Draw(image_index, epoch)]` is an image and its `Target`.

    The generators of Python, NumPy and torch are seeded for each sample and restored after it.

    Args:
        dataset: The data set. Its transform may use any of the three generators.
        seed: The seed of the augmentation.

    Example:
        >>> from sparse_rcnn.data import ShapesDataset
        >>> seeded = SeededDataset(ShapesDataset("shapes", "val", num_images=2))
        >>> image, target = seeded[Draw(image_index=1, epoch=0)]
        >>> target.image_id
        2
    """

    def __init__(self, dataset: DetectionDataset, seed: int = 0) -> None:
        self.dataset = dataset
        self.seed = seed

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, draw: Draw) -> tuple[Tensor, Target]:
        """Reads and augments one image."""
        with seeded_by(self.seed, draw.epoch, draw.image_index):
            return self.dataset[draw.image_index]


@contextmanager
def seeded_by(*numbers: int) -> Iterator[None]:
    """Seeds the generators of Python, NumPy and torch (on the CPU), and restores them at the end.

    Args:
        numbers: Integers in 0..2**32 - 1. Each combination gives different seeds. Always give the same number
            of integers.

    Raises:
        ValueError: If a number is negative.
    """
    seeds = tuple(whole_number("seeds", number, -(2**63)) for number in numbers)
    if min(seeds, default=0) < 0:
        raise ValueError(f"seeds must be at least 0, got {seeds}")
    before = random.getstate(), np.random.get_state(), torch.get_rng_state()
    words = np.random.SeedSequence(seeds).generate_state(3).tolist()
    random.seed(words[0])
    np.random.seed(words[1])
    torch.random.default_generator.manual_seed(words[2])
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
        torch.set_rng_state(before[2])
