"""Samples for the loader. If an image cannot be read, another image replaces it."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.utils.data import Dataset

from sparse_rcnn.data import Batch, Draw, SeededDataset, Target, UnreadableImageError, collate

MOST_IN_A_ROW = 10  # if so many images in a row cannot be read, the disk is the cause

GONE = f"{MOST_IN_A_ROW} images in a row could not be read"

Sample = tuple[Tensor, Target, list[str]]


class ReadableSamples(Dataset[Sample]):
    """A data set without read errors: `readable[draw]` is an image, its `Target` and a list of problems.

    If an image cannot be read, the next image of the data set that can be read replaces it. If many images in
    a row cannot be read, the image is empty and the last problem says so (`is_gone`).
    """

    def __init__(self, dataset: SeededDataset) -> None:
        self.dataset = dataset

    def __getitem__(self, draw: Draw) -> Sample:
        problems: list[str] = []
        for offset in range(MOST_IN_A_ROW):
            index = (draw.image_index + offset) % len(self.dataset)
            try:
                image, target = self.dataset[draw._replace(image_index=index)]
            except UnreadableImageError as error:
                problems.append(str(error))
            else:
                return image, target, problems
        # No error here: only this process knows of it, and all processes must end together.
        empty = Target(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), -1, (32, 32))
        return (
            torch.zeros(3, 32, 32, dtype=torch.uint8),
            empty,
            [*problems, f"{GONE}, the last: {problems[-1]}"],
        )


def collate_readable(samples: Sequence[Sample], target_divisor: int) -> tuple[Batch, list[str]]:
    """A batch, and the problems with images that could not be read."""
    batch = collate([(image, target) for image, target, _ in samples], target_divisor=target_divisor)
    return batch, [problem for _, _, problems in samples for problem in problems]


def is_gone_problem(problem: str) -> bool:
    """Whether a problem says that too many images in a row cannot be read."""
    return problem.startswith(GONE)


def is_gone(problems: list[str]) -> bool:
    """Whether one of the problems says that too many images in a row cannot be read."""
    return any(map(is_gone_problem, problems))
