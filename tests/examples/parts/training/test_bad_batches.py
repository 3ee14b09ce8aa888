"""Bad steps are skipped and leave the state unchanged."""

import errno
import os
from pathlib import Path

import pytest
import torch
from parts.training.bad_batches import MOST_DUMPS, BadBatches, RunningStatistics
from parts.training.processes import Processes
from small_model import build_small_model
from torch import Tensor, nn

from sparse_rcnn.data import Batch, Target, collate

ALONE = Processes(0, 0, 1, torch.device("cpu"))
BAD = torch.tensor([torch.nan, 1.0])
INFINITE = float("inf")


def batch_of(*image_ids: int) -> Batch:
    """Images full of their id, of different sizes and numbers of boxes."""
    samples = []
    for index, number in enumerate(image_ids):
        image = torch.full((3, 20 + index, 30), number, dtype=torch.uint8)
        boxes = torch.tensor([[1.0, 2.0, 3.0, 4.0 + number]] * index).reshape(-1, 4)
        target = Target(boxes, torch.zeros(index, dtype=torch.int64), number, (20 + index, 30))
        samples.append((image, target))
    return collate(samples)


def refuse(number: int):
    def refuse_now(*arguments: object, **options: object) -> None:
        raise OSError(number, os.strerror(number))

    return refuse_now


def test_the_entry_names_the_images_of_all_parts_of_the_step(tmp_path: Path) -> None:
    bad_batches = BadBatches(tmp_path / "bad", 3, ALONE)
    entry = bad_batches.skip(17, [batch_of(9, 4), batch_of(120)], BAD, INFINITE)
    assert entry["iteration"] == 17
    assert entry["image_ids"] == [4, 9, 120]
    assert entry["skipped"] == 1
    assert entry["gradient_norm"] == INFINITE
    assert bad_batches.skip(18, [batch_of(5)], torch.ones(2), INFINITE)["image_ids"] == [5]
    assert (bad_batches.total, bad_batches.in_a_row) == (2, 2)


def test_the_dump_holds_what_the_step_saw(tmp_path: Path) -> None:
    batches = [batch_of(9, 4), batch_of(120)]
    entry = BadBatches(tmp_path / "a" / "bad", 3, ALONE).skip(17, batches, BAD, INFINITE)
    assert entry["dumps"] == [str(tmp_path / "a" / "bad" / "iteration_00000017_rank_0.pth")]
    dump = torch.load(entry["dumps"][0], weights_only=True)
    assert dump["iteration"] == 17
    assert dump["gradient_norm"] == INFINITE
    assert dump["losses"].isnan().tolist() == [True, False]
    for mine, theirs in zip(dump["batches"], batches, strict=True):
        for key in ("images", "image_sizes", "image_ids"):
            assert torch.equal(mine[key], getattr(theirs, key)), key
        for key in ("boxes", "labels", "valid"):
            assert torch.equal(mine[key], getattr(theirs.targets, key)), key


def test_many_bad_batches_do_not_fill_the_disk(tmp_path: Path) -> None:
    bad_batches = BadBatches(tmp_path, 1000, ALONE)
    dumps = [bad_batches.skip(i, [batch_of(1)], BAD, INFINITE)["dumps"] for i in range(1, MOST_DUMPS + 6)]
    assert [len(dump) for dump in dumps] == [1] * MOST_DUMPS + [0] * 5
    assert len(list(tmp_path.iterdir())) == MOST_DUMPS
    assert bad_batches.total == MOST_DUMPS + 5


def test_dumps_of_a_run_before_count(tmp_path: Path) -> None:
    bad_batches = BadBatches(tmp_path, 10, ALONE)
    bad_batches.total = MOST_DUMPS - 1  # from its checkpoint
    dumps = [bad_batches.skip(i, [batch_of(1)], BAD, INFINITE)["dumps"] for i in (5, 6)]
    assert [len(dump) for dump in dumps] == [1, 0]


def test_too_many_in_a_row_are_an_error_that_names_the_images(tmp_path: Path) -> None:
    bad_batches = BadBatches(tmp_path, 3, ALONE)
    for iteration in (1, 2):
        entry = bad_batches.skip(iteration, [batch_of(8)], BAD, INFINITE)
        bad_batches.raise_if_hopeless(iteration, entry["image_ids"])
    entry = bad_batches.skip(3, [batch_of(77, 31)], BAD, INFINITE)
    assert (tmp_path / "iteration_00000003_rank_0.pth").is_file()
    with pytest.raises(ValueError, match=r"iteration 3: .* 3 times in a row.* ids \[31, 77\]"):
        bad_batches.raise_if_hopeless(3, entry["image_ids"])


def test_a_limit_of_one_forgives_none(tmp_path: Path) -> None:
    bad_batches = BadBatches(tmp_path, 1, ALONE)
    bad_batches.raise_if_hopeless(0, [])
    entry = bad_batches.skip(1, [batch_of(6)], BAD, INFINITE)
    with pytest.raises(ValueError, match=r"1 times in a row.* ids \[6\]"):
        bad_batches.raise_if_hopeless(1, entry["image_ids"])


def test_a_good_step_in_between_starts_the_count_anew(tmp_path: Path) -> None:
    bad_batches = BadBatches(tmp_path, 3, ALONE)
    for iteration in range(1, 20, 3):
        bad_batches.skip(iteration, [batch_of(8)], BAD, INFINITE)
        bad_batches.skip(iteration + 1, [batch_of(8)], BAD, INFINITE)
        bad_batches.raise_if_hopeless(iteration + 1, [8])
        bad_batches.in_a_row = 0
    assert bad_batches.total == 14


def half_written(monkeypatch: pytest.MonkeyPatch, directory: Path) -> None:
    """A disk that becomes full while a file is written."""

    def write_a_half(path: Path, content: memoryview) -> None:
        with path.open("wb") as file:
            file.write(content[:100])
        refuse(errno.ENOSPC)()

    monkeypatch.setattr(Path, "write_bytes", write_a_half)


def without_permission(monkeypatch: pytest.MonkeyPatch, directory: Path) -> None:
    monkeypatch.setattr(Path, "mkdir", refuse(errno.EACCES))


def behind_a_file(monkeypatch: pytest.MonkeyPatch, directory: Path) -> None:
    directory.parent.rmdir()
    directory.parent.write_bytes(b"no directory")


def read_only_since(monkeypatch: pytest.MonkeyPatch, directory: Path) -> None:
    """A read-only file system, as after an error. It also refuses to remove files that do not exist."""
    directory.mkdir()
    for function in ("write_bytes", "unlink"):
        monkeypatch.setattr(Path, function, refuse(errno.EROFS))


@pytest.mark.parametrize("fault", [half_written, without_permission, behind_a_file, read_only_since])
def test_what_cannot_be_dumped_is_in_the_entry_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault
) -> None:
    directory = tmp_path / "run" / "bad"
    directory.parent.mkdir()
    bad_batches = BadBatches(directory, 3, ALONE)
    with monkeypatch.context() as patch:
        fault(patch, directory)
        entry = bad_batches.skip(2, [batch_of(8, 3)], BAD, INFINITE)
    assert entry["dumps"] == []
    assert entry["image_ids"] == [3, 8]
    assert not list(tmp_path.rglob("*.pth"))


def poisoned_forward(model: nn.Module) -> None:
    images = torch.full((2, 3, 64, 64), torch.nan)
    model.train()
    with torch.no_grad():
        model(images, torch.tensor([[64, 64], [64, 64]]))


def bits_of(tensors: dict[str, Tensor]) -> dict[str, bytes]:
    return {name: tensor.numpy().tobytes() for name, tensor in tensors.items()}


@pytest.mark.slow
def test_the_statistics_of_batch_norm_are_bit_for_bit_what_they_were() -> None:
    model = build_small_model(backbone="resnet10", backbone_norm="batch")
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, buffer in model.named_buffers():
            if name.endswith(("running_mean", "running_var")):
                buffer.uniform_(0.1, 2, generator=generator)
    statistics = RunningStatistics(model)
    state = model.state_dict()
    for _ in range(2):
        before = bits_of(state)
        statistics.remember()
        poisoned_forward(model)
        changed = {name.rsplit(".", 1)[1] for name in before if bits_of(state)[name] != before[name]}
        assert changed == {"running_mean", "running_var", "num_batches_tracked"}
        statistics.restore()
        assert bits_of(state) == before
        with torch.no_grad():  # a good step: the next time it is these that must come back
            model(torch.rand(2, 3, 64, 64), torch.tensor([[64, 64], [64, 64]]))


@pytest.mark.parametrize("norm", ["frozen", "group"])
def test_other_norms_have_nothing_that_a_bad_step_could_change(norm: str) -> None:
    model = build_small_model(backbone="resnet10", backbone_norm=norm)
    statistics = RunningStatistics(model)
    before = bits_of(model.state_dict())
    statistics.remember()
    poisoned_forward(model)
    assert bits_of(model.state_dict()) == before
    statistics.restore()
    assert bits_of(model.state_dict()) == before
