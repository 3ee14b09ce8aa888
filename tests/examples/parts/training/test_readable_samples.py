"""Other images replace images that cannot be read."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from parts.reader import outlive_signals
from parts.training.readable_samples import (
    MOST_IN_A_ROW,
    ReadableSamples,
    collate_readable,
    is_gone,
    is_gone_problem,
)
from processes import EXAMPLES
from torch.utils.data import DataLoader

from sparse_rcnn.data import Draw, SeededDataset, ShapesDataset, training_transform

NUM_IMAGES = 12


@pytest.fixture(scope="module")
def intact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("samples") / "shapes"
    ShapesDataset(directory, num_images=NUM_IMAGES, image_size=48)
    return directory


@pytest.fixture
def root(intact: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(intact, tmp_path / "shapes"))


def open_samples(root: Path, transform: Any = None) -> ReadableSamples:
    dataset = ShapesDataset(root, num_images=NUM_IMAGES, image_size=48, transform=transform)
    return ReadableSamples(SeededDataset(dataset, seed=5))


def damage(root: Path, *indices: int) -> None:
    for index in indices:
        (root / "train2017" / f"{index + 1:012d}.jpg").write_bytes(b"no image")


def assert_same(mine: tuple, theirs: tuple) -> None:
    assert torch.equal(mine[0], theirs[0])
    assert torch.equal(mine[1].boxes, theirs[1].boxes)
    assert torch.equal(mine[1].labels, theirs[1].labels)
    assert mine[1][2:] == theirs[1][2:]


def test_what_can_be_read_is_the_sample_itself(root: Path) -> None:
    samples = open_samples(root, training_transform((32, 48), 64))
    for draw in (Draw(0, 0), Draw(3, 1), Draw(NUM_IMAGES - 1, 7)):
        sample = samples[draw]
        assert_same(sample, samples.dataset[draw])
        assert sample[2] == []


@pytest.mark.parametrize(
    ("gone", "asked", "taken"),
    [((3,), 3, 4), ((3, 4, 5), 3, 6), ((NUM_IMAGES - 1,), NUM_IMAGES - 1, 0), ((11, 0, 1), 10, 10)],
)
def test_the_next_that_can_be_read_takes_the_place(
    root: Path, gone: tuple[int, ...], asked: int, taken: int
) -> None:
    damage(root, *gone)
    samples = open_samples(root, training_transform((32, 48), 64))
    sample = samples[Draw(asked, 2)]
    assert_same(sample, samples.dataset[Draw(taken, 2)])  # as it looks in this epoch
    assert len(sample[2]) == (taken - asked) % NUM_IMAGES
    for offset, problem in enumerate(sample[2]):
        assert f"{asked + offset + 1:012d}.jpg: cannot be read as an image" in problem


def test_an_image_of_another_size_than_annotated_is_replaced_too(root: Path) -> None:
    images = root / "train2017"
    shutil.copy(images / f"{2:012d}.jpg", images / f"{1:012d}.jpg")
    _, target, problems = open_samples(root)[Draw(0, 0)]
    assert target.image_id == 2
    assert "but its annotation says" in problems[0]


def test_a_missing_file_is_replaced_too(root: Path) -> None:
    samples = open_samples(root)
    (root / "train2017" / f"{8:012d}.jpg").unlink()
    _, target, problems = samples[Draw(7, 0)]
    assert target.image_id == 9
    assert len(problems) == 1


def test_the_last_of_ten_may_be_the_first_that_can_be_read(root: Path) -> None:
    damage(root, *range(MOST_IN_A_ROW - 1))
    _, target, problems = open_samples(root)[Draw(0, 0)]
    assert target.image_id == MOST_IN_A_ROW
    assert len(problems) == MOST_IN_A_ROW - 1


def test_ten_in_a_row_are_told_with_the_last(root: Path) -> None:
    damage(root, *range(MOST_IN_A_ROW))
    image, target, problems = open_samples(root)[Draw(0, 0)]
    assert not image.any()
    assert len(target.boxes) == 0
    assert len(problems) == MOST_IN_A_ROW + 1
    assert [is_gone_problem(problem) for problem in problems] == [False] * MOST_IN_A_ROW + [True]
    assert re.search(rf"10 images in a row .*, the last: .*/0*{MOST_IN_A_ROW}\.jpg", problems[-1])
    assert is_gone(problems)
    assert not is_gone(problems[:-1])


@pytest.mark.parametrize("error", [ValueError, RuntimeError, KeyError])
def test_other_errors_are_not_mistaken_for_a_broken_image(root: Path, error: type[Exception]) -> None:
    def fail(image: Any, objects: Any) -> None:
        raise error("the transform's own fault")

    with pytest.raises(error, match="own fault") as raised:
        open_samples(root, fail)[Draw(0, 0)]
    assert raised.type is error


@pytest.mark.parametrize("divisor", [1, 16])
def test_a_batch_comes_with_all_that_could_not_be_read(root: Path, divisor: int) -> None:
    damage(root, 1, 2, 7)
    samples = open_samples(root)
    batch, problems = collate_readable([samples[Draw(index, 0)] for index in (0, 1, 7, 10)], divisor)
    assert batch.image_ids.tolist() == [1, 4, 9, 11]
    assert batch.images.shape[0] == 4
    assert batch.targets.valid.shape[1] % divisor == 0
    assert [Path(problem.split(":")[0]).stem for problem in problems] == [f"{n:012d}" for n in (2, 3, 8)]


def signal_everybody(image: Any, objects: Any) -> tuple[Any, Any]:
    for number in (signal.SIGINT, signal.SIGTERM):
        os.kill(os.getpid(), number)
    return image, objects


def test_workers_replace_images_and_read_on_after_signals(root: Path) -> None:
    damage(root, 0, 5)
    loader = DataLoader(
        open_samples(root, signal_everybody),
        batch_sampler=[[Draw(0, 0), Draw(2, 0)], [Draw(3, 0), Draw(4, 0)], [Draw(5, 0), Draw(11, 0)]],
        collate_fn=partial(collate_readable, target_divisor=1),
        num_workers=1,
        worker_init_fn=outlive_signals,
    )
    batches = list(loader)
    assert [batch.image_ids.tolist() for batch, _ in batches] == [[2, 3], [4, 5], [7, 12]]
    assert [len(problems) for _, problems in batches] == [1, 0, 1]


ORPHAN = """
import multiprocessing, os, signal, sys
sys.path.insert(0, sys.argv[2])
from parts.reader import outlive_signals
from torch.utils.data import DataLoader

def main():
    multiprocessing.set_start_method(sys.argv[1])
    batches = iter(DataLoader(range(9), num_workers=1, worker_init_fn=outlive_signals))
    next(batches)
    (worker,) = multiprocessing.active_children()
    print(worker.pid, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)

if __name__ == "__main__":
    main()
"""


@pytest.mark.slow
@pytest.mark.parametrize("method", ["fork", "forkserver"])
def test_no_worker_outlives_the_process_that_it_reads_for(tmp_path: Path, method: str) -> None:
    script = tmp_path / "orphan.py"
    script.write_text(ORPHAN)
    command = [sys.executable, str(script), method, str(EXAMPLES)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=100, check=False)
    assert done.returncode == -signal.SIGKILL
    worker = Path("/proc") / done.stdout.strip()
    for _ in range(300):
        if not worker.exists() or "State:\tZ" in (worker / "status").read_text():
            return
        time.sleep(0.1)
    os.kill(int(worker.name), signal.SIGKILL)
    pytest.fail(f"{method}: the worker is still there after half a minute")


def test_a_worker_that_finds_no_image_says_which(root: Path) -> None:
    # As a problem: an error would end this process alone, and the others would wait for it.
    damage(root, *range(NUM_IMAGES))
    loader = DataLoader(
        open_samples(root),
        batch_sampler=[[Draw(3, 0)]],
        collate_fn=partial(collate_readable, target_divisor=1),
        num_workers=1,
        worker_init_fn=outlive_signals,
    )
    batch, problems = next(iter(loader))
    assert batch.targets.valid.sum() == 0
    assert is_gone(problems)
    assert problems[-1].split(":")[1].endswith("/000000000001.jpg")
