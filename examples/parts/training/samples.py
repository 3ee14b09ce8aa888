"""Samples for the loader: another in the place of one that cannot be read."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.utils.data import Dataset

from sparse_rcnn.data import Batch, Draw, SeededDataset, Target, UnreadableImageError, collate

MOST_IN_A_ROW = 10  # neighbours that cannot be read either: then the disk is gone, and not an image

GONE = f"{MOST_IN_A_ROW} images in a row could not be read"

Sample = tuple[Tensor, Target, list[str]]


class ReadableSamples(Dataset[Sample]):
    """Samples that always come: `readable[draw] -> (image, Target, what could not be read)`.

    In the place of an image that cannot be read comes the next in the data set that can; if none does of
    many, an empty one, and a last problem that says so (`is_gone`).
    """

    def __init__(self, dataset: SeededDataset) -> None:
        self.dataset = dataset

    def __getitem__(self, draw: Draw) -> Sample:
        problems: list[str] = []
        for offset in range(MOST_IN_A_ROW):
            index = (draw.image_index + offset) % len(self.dataset)
            try:
                image, target = self.dataset[Draw(index, draw.epoch)]
            except UnreadableImageError as error:
                problems.append(str(error))
            else:
                return image, target, problems
        # Not an error here: all processes are to end together, and only one of them knows.
        empty = Target(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), -1, (32, 32))
        return (
            torch.zeros(3, 32, 32, dtype=torch.uint8),
            empty,
            [*problems, f"{GONE}, the last: {problems[-1]}"],
        )


def collate_readable(samples: Sequence[Sample], target_divisor: int) -> tuple[Batch, list[str]]:
    """A batch, and what could not be read for it."""
    batch = collate([(image, target) for image, target, _ in samples], target_divisor=target_divisor)
    return batch, [problem for _, _, problems in samples for problem in problems]


def is_gone_problem(problem: str) -> bool:
    """Whether it says that too many images in a row cannot be read to go on."""
    return problem.startswith(GONE)


def is_gone(problems: list[str]) -> bool:
    """Whether one of the problems says so."""
    return any(map(is_gone_problem, problems))
