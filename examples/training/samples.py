"""Samples for the loader: another in the place of one that cannot be read."""

from collections.abc import Sequence

from torch import Tensor
from torch.utils.data import Dataset

from sparse_rcnn.data import Batch, Draw, SeededDataset, Target, UnreadableImageError, collate

MOST_IN_A_ROW = 10  # neighbours that cannot be read either: then the disk is gone, and not an image

Sample = tuple[Tensor, Target, list[str]]


class ReadableSamples(Dataset[Sample]):
    """Samples that always come: ``readable[draw] -> (image, Target, what could not be read)``.

    In the place of an image that cannot be read comes the next in the data set that can.
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
        raise UnreadableImageError(f"{MOST_IN_A_ROW} images in a row, the last: {problems[-1]}")


def collate_readable(samples: Sequence[Sample], target_divisor: int) -> tuple[Batch, list[str]]:
    """A batch, and what could not be read for it."""
    batch = collate([(image, target) for image, target, _ in samples], target_divisor=target_divisor)
    return batch, [problem for _, _, problems in samples for problem in problems]
