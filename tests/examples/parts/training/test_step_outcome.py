"""The two sums of a step, and its outcome."""

import math

import pytest
import torch
from parts.training.processes import Processes
from parts.training.readable_samples import GONE
from parts.training.step_outcome import Outcome, StepSums
from parts.training.unreadable_images import UnreadableImages
from torch import Tensor

from sparse_rcnn.data import Batch, Target, collate

CPU = torch.device("cpu")
ALONE = Processes(0, 0, 1, CPU)


class Pair(Processes):
    """One of two processes. The other one has the same values."""

    def sum(self, tensor: Tensor) -> Tensor:
        return tensor.mul_(2)

    def gather(self, value):
        return [value, ["other.jpg: broken"]]


def part_with(count: int) -> Batch:
    boxes = torch.tensor([[1.0, 2, 30, 40]]).expand(count, 4)
    target = Target(boxes, torch.zeros(count, dtype=torch.int64), 1, (64, 64))
    return collate([(torch.zeros(3, 64, 64, dtype=torch.uint8), target)])


def outcome(losses: list[float], norm: float = 1.0, unreadable: int = 0, gone: bool = False) -> Outcome:
    return Outcome(losses, norm, False, False, unreadable, gone)


def test_targets_and_losses_are_those_of_all_parts_and_processes() -> None:
    sums = StepSums(Pair(*ALONE))
    parts, problems = [part_with(3), part_with(0), part_with(2)], ["a.jpg: broken", f"{GONE}, the last: b"]
    num_targets = sums.before_forward(parts, problems, is_stopped=False, is_overdue=True)
    assert num_targets.item() == 10
    own = torch.tensor([4.0, 1.5])
    found = sums.after_backward(own, torch.tensor(0.5))
    assert found == Outcome(
        [8.0, 3.0], 0.5, is_stopped=False, is_overdue=True, num_unreadable=4, is_gone=True
    )
    assert own.tolist() == [4.0, 1.5]  # the dump of a bad batch has these


@pytest.mark.parametrize(
    ("losses", "norm", "losses_are_finite", "is_finite"),
    [
        ([1.0, 2.0], 3.0, True, True),
        ([1.0, 2.0], math.inf, True, False),
        ([1.0, math.nan], 3.0, False, False),
        ([math.inf, 2.0], math.nan, False, False),
    ],
)
def test_a_step_counts_if_all_is_finite(
    losses: list[float], norm: float, losses_are_finite: bool, is_finite: bool
) -> None:
    found = outcome(losses, norm)
    assert (found.losses_are_finite, found.is_finite) == (losses_are_finite, is_finite)


def test_too_many_unreadable_images_end_all_processes(capsys: pytest.CaptureFixture[str]) -> None:
    images = UnreadableImages(2, Pair(*ALONE))
    images.note(1, [], outcome([1.0]))
    assert images.known == set()
    for iteration in (2, 3):  # the same image twice counts once
        images.note(iteration, ["a.jpg: broken"], outcome([1.0], unreadable=1))
    assert images.known == {"a.jpg: broken", "other.jpg: broken"}
    assert capsys.readouterr().err.count("a.jpg: broken; another image replaces it") == 2
    with pytest.raises(
        ValueError, match="iteration 4: 3 images could not be read, and --max-unreadable is 2"
    ):
        images.note(4, ["b.jpg: broken"], outcome([1.0], unreadable=1))


def test_a_process_that_finds_no_image_ends_all_whatever_the_limit() -> None:
    images = UnreadableImages(None, Pair(*ALONE))
    with pytest.raises(ValueError, match=f"iteration 7: {GONE}, the last: z.jpg"):
        images.note(7, ["z.jpg: gone", f"{GONE}, the last: z.jpg"], outcome([1.0], unreadable=2, gone=True))
