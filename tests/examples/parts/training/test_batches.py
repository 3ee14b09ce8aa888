"""The batches of a process, and steps in several parts."""

import time
from argparse import Namespace
from contextlib import closing
from types import SimpleNamespace

import pytest
import torch
from parts.training.batches import augmented, open_batches, take_step
from parts.training.length import Length
from parts.training.processes import Processes
from parts.training.training_step import TrainingStep
from small_model import build_small_model
from torch import Tensor

from sparse_rcnn.data import AugmentedDataset, Batch, ShapesDataset, Target, collate

ALONE = Processes(0, 0, 1, torch.device("cpu"))


class Pair(Processes):
    """The first of two processes. The other one has larger images."""

    def gather(self, value):
        return [value, [96, 160]]


def sample(height: int, width: int, number: int) -> tuple[Tensor, Target]:
    generator = torch.Generator().manual_seed(number)
    image = torch.randint(0, 256, (3, height, width), generator=generator, dtype=torch.uint8)
    boxes = torch.tensor([[4.0, 6.0, 30.0 + number, 28.0], [10.0, 2.0, 25.0, 20.0]])
    return image, Target(boxes, torch.tensor([number % 3, 1]), number, (height, width))


def losses_and_gradient(parts: list[Batch]) -> tuple[float, Tensor]:
    """The losses of a step: train.py adds those of its parts, from all processes."""
    step = TrainingStep(build_small_model(backbone="resnet10").train())
    num_targets = torch.tensor(float(sum(part.targets.valid.sum() for part in parts)))
    total = 0.0
    for part in parts:
        output = step(part.images, part.image_sizes, *part.targets, num_targets)
        output.losses.total.backward()
        total += output.losses.total.item()
    return total, torch.cat([p.grad.flatten() for p in step.parameters() if p.grad is not None])


@pytest.mark.parametrize("pad_alike", [False, True])
def test_parts_make_the_step_of_the_whole_up_to_rounding_if_padded_alike(pad_alike: bool) -> None:
    samples = [sample(64, 96, 1), sample(60, 90, 2), sample(40, 50, 3), sample(36, 64, 4)]
    whole = collate(samples)
    arguments = Namespace(accumulate=2, pad_alike=pad_alike)
    batches = ((collate(samples[first : first + 2]), [f"problem {first}"]) for first in (0, 2))
    parts, problems = take_step(batches, arguments, ALONE)
    assert problems == ["problem 0", "problem 2"]
    sizes = [tuple(part.images.shape[2:]) for part in parts]
    assert sizes == [(64, 96), (64, 96) if pad_alike else (64, 64)]
    loss, gradient = losses_and_gradient(parts)
    expected, expected_gradient = losses_and_gradient([whole])
    difference = (gradient - expected_gradient).norm().item() / expected_gradient.norm().item()
    if pad_alike:
        assert loss == pytest.approx(expected, rel=1e-6)
        assert difference < 1e-5
    else:  # as train.py --help says: the steps are alike, but not equal
        assert 1e-5 < abs(loss / expected - 1) < 0.03
        assert difference > 1e-3


def test_padding_alike_is_that_of_the_largest_of_all_processes() -> None:
    arguments = Namespace(accumulate=1, pad_alike=True)
    (part,), _ = take_step(iter([(collate([sample(100, 50, 1)]), [])]), arguments, Pair(*ALONE))
    assert tuple(part.images.shape) == (1, 3, 128, 160)
    assert part.image_sizes.tolist() == [[100, 50]]
    assert part.images[..., 64:].sum() == 0


@pytest.mark.parametrize(
    ("images", "augmentation", "first"), [(4, "late", 500), (200, "late", 12), (4, "strong", 0)]
)
def test_late_augmentation_waits_for_12_epochs_and_500_steps(tmp_path, images, augmentation, first):
    shapes = ShapesDataset(tmp_path, num_images=images, image_size=48)
    options = {"augmentation": augmentation, "batch_size": 4, "iterations": 5000, "seed": 0}
    dataset = augmented(shapes, Namespace(sizes=[32], max_size=64, vertical_flip=False, **options))
    assert isinstance(dataset, AugmentedDataset)
    assert dataset.first_epoch == first


@pytest.mark.parametrize(("workers", "expected"), [(0, 33), (0, 15), (1, 33)])
def test_the_last_tenth_is_calm_also_where_the_expected_number_of_steps_is_wrong(
    tmp_path, monkeypatch, workers, expected
):
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    shapes = ShapesDataset(tmp_path, num_images=4, image_size=48)
    options = {"sizes": [32], "max_size": 64, "vertical_flip": False, "workers": workers, "seed": 0}
    options |= {"batch_size": 2, "accumulate": 2, "group_size": 1, "compile": None, "clock": "wall"}
    arguments = Namespace(minutes=1.0, iterations=expected, augmentation="strong", **options)
    light = Namespace(**{**vars(arguments), "augmentation": "light", "workers": 0})
    length, calm = Length(arguments, SimpleNamespace(spent=0.0), ALONE, 0), []
    with (
        closing(open_batches(arguments, shapes, ALONE, 0)) as batches,
        closing(open_batches(light, shapes, ALONE, 0)) as same,
    ):
        for step in length.steps(0):
            pairs = [(next(batches)[0].images, next(same)[0].images) for _ in range(2)]
            calm += [step] * all(torch.equal(*pair) for pair in pairs)
            now[0] += 2.5
            length.note(step)
    assert (arguments.iterations, calm) == (24, [23, 24])
