"""Checkpoints on a disk that is full, loses files or changes bytes."""

import errno
import os
import shutil
from pathlib import Path

import pytest
import torch
from parts.training import checkpoint_files
from parts.training.checkpoint_files import CheckpointDirectory
from parts.training.resuming import read_run

from sparse_rcnn.nn import read_checkpoint


def checkpoint_of(iteration: int) -> dict:
    weights = torch.arange(500.0) + iteration
    return {"model": {"weight": weights}, "optimizer": {"state": {}}, "iteration": iteration}


def with_checkpoints(output: Path, *iterations: int, keep: int = 3) -> CheckpointDirectory:
    checkpoints = CheckpointDirectory(output, keep)
    for iteration in iterations:
        checkpoints.save(checkpoint_of(iteration), iteration)
    return checkpoints


def path_of(checkpoints: CheckpointDirectory, iteration: int) -> Path:
    (path,) = checkpoints.directory.glob(f"{iteration:08d}-*.pth")
    return path


def iterations_in(checkpoints: CheckpointDirectory) -> list[int]:
    return sorted(int(path.name.split("-")[0]) for path in checkpoints.directory.glob("*.pth"))


def files_in(output: Path) -> dict[str, bytes]:
    """Every file of a run, and its content."""
    paths = (path for path in output.rglob("*") if path.is_file())
    return {str(path.relative_to(output)): path.read_bytes() for path in paths}


def assert_holds(path: Path | None, iteration: int) -> None:
    assert path is not None
    checkpoint = read_checkpoint(path)
    assert checkpoint["iteration"] == iteration
    assert torch.equal(checkpoint["model"]["weight"], checkpoint_of(iteration)["model"]["weight"])


def say_nothing(text: str) -> None:
    pytest.fail(f"nothing is wrong, but it said: {text}")


def refuse(number: int):
    def refuse_now(*arguments: object, **options: object) -> None:
        raise OSError(number, os.strerror(number))

    return refuse_now


def refuse_hard_links(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "link", refuse(errno.EPERM))


def cut_off(content: bytes) -> bytes:
    return content[:-100]


def emptied(content: bytes) -> bytes:
    return b""


def flipped(content: bytes, position: float = 0.5) -> bytes:
    index = int(position * (len(content) - 1))
    return content[:index] + bytes([content[index] ^ 1]) + content[index + 1 :]


def flipped_first(content: bytes) -> bytes:
    return flipped(content, 0)


def flipped_last(content: bytes) -> bytes:
    return flipped(content, 1)


def lengthened(content: bytes) -> bytes:
    return content + b"\0"


def test_the_newest_is_found_with_all_that_was_saved(tmp_path: Path) -> None:
    checkpoints = CheckpointDirectory(tmp_path / "runs" / "new")
    for iteration in (5, 1000, 123_456_789):
        written = checkpoints.save(checkpoint_of(iteration), iteration)
        found = CheckpointDirectory(tmp_path / "runs" / "new").find_newest(say_nothing)
        assert found == written
        assert_holds(found, iteration)


@pytest.mark.parametrize("links", [True, False])
def test_after_every_save_checkpoint_pth_is_the_newest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    if not links:
        refuse_hard_links(monkeypatch)
    checkpoints = CheckpointDirectory(tmp_path, keep=2)
    for iteration in range(1, 6):
        path = checkpoints.save(checkpoint_of(iteration), iteration)
        assert_holds(tmp_path / "checkpoint.pth", iteration)
        assert (tmp_path / "checkpoint.pth").samefile(path) == links
        assert sorted(p.name for p in tmp_path.iterdir()) == ["checkpoint.pth", "checkpoints"]
        assert {p.suffix for p in checkpoints.directory.iterdir()} == {".pth"}


@pytest.mark.parametrize("keep", [1, 2, 4])
def test_the_last_few_are_kept(tmp_path: Path, keep: int) -> None:
    checkpoints = with_checkpoints(tmp_path, 2, 4, 6, 8, 10, keep=keep)
    assert iterations_in(checkpoints) == [2, 4, 6, 8, 10][-keep:]


def test_what_was_just_saved_is_kept_even_if_later_iterations_are_there(tmp_path: Path) -> None:
    with_checkpoints(tmp_path, 20, 30)
    path = CheckpointDirectory(tmp_path, keep=1).save(checkpoint_of(10), 10)
    assert_holds(path, 10)
    assert_holds(tmp_path / "checkpoint.pth", 10)


def test_of_one_iteration_the_last_that_was_written_counts(tmp_path: Path) -> None:
    for late in ("first", "second"):
        checkpoints = CheckpointDirectory(tmp_path / late)
        paths = [checkpoints.save({**checkpoint_of(7), "note": note}, 7) for note in ("first", "second")]
        for path in paths:
            os.utime(path, (1, 1))
        newest = paths[late == "second"]
        os.utime(newest, (2, 2))
        assert checkpoints.find_newest(say_nothing) == newest


def test_the_same_again_is_one_file(tmp_path: Path) -> None:
    checkpoints = with_checkpoints(tmp_path, 3, 3, 3)
    assert iterations_in(checkpoints) == [3]
    assert_holds(tmp_path / "checkpoint.pth", 3)
    assert len(files_in(tmp_path)) == 2


@pytest.mark.parametrize("damage", [cut_off, emptied, flipped, flipped_first, flipped_last, lengthened])
def test_if_the_newest_is_damaged_the_one_before_is_used_and_said(tmp_path: Path, damage) -> None:
    checkpoints = with_checkpoints(tmp_path, 10, 20, 30)
    broken = path_of(checkpoints, 30)
    broken.write_bytes(damage(broken.read_bytes()))
    said: list[str] = []
    found = checkpoints.find_newest(said.append)
    assert found == path_of(checkpoints, 20)
    assert_holds(found, 20)
    assert_holds(tmp_path / "checkpoint.pth", 20)
    assert len(said) == 1
    assert f"{broken} is damaged" in said[0]
    assert broken.with_suffix(".damaged").is_file()
    assert checkpoints.find_newest(say_nothing) == found  # the message comes once


def test_of_several_damaged_in_a_row_all_are_said(tmp_path: Path) -> None:
    checkpoints = with_checkpoints(tmp_path, 10, 20, 30, 40, keep=4)
    for iteration, damage in ((20, flipped), (30, emptied), (40, cut_off)):
        path = path_of(checkpoints, iteration)
        path.write_bytes(damage(path.read_bytes()))
    said: list[str] = []
    assert_holds(checkpoints.find_newest(said.append), 10)
    assert_holds(tmp_path / "checkpoint.pth", 10)
    assert [text.split("/")[-1].split("-")[0] for text in said] == ["00000040", "00000030", "00000020"]


def test_damage_before_the_newest_does_no_harm(tmp_path: Path) -> None:
    checkpoints = with_checkpoints(tmp_path, 10, 20)
    path_of(checkpoints, 10).write_bytes(b"")
    assert_holds(checkpoints.find_newest(say_nothing), 20)


@pytest.mark.parametrize("links", [True, False])
def test_saving_goes_on_after_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool) -> None:
    if not links:
        refuse_hard_links(monkeypatch)
    checkpoints = with_checkpoints(tmp_path, 10, 20)
    path_of(checkpoints, 20).write_bytes(b"")
    assert_holds(checkpoints.find_newest([].append), 10)
    assert_holds(tmp_path / "checkpoint.pth", 10)
    checkpoints.save(checkpoint_of(20), 20)
    assert_holds(checkpoints.find_newest(say_nothing), 20)
    assert_holds(tmp_path / "checkpoint.pth", 20)


def test_if_all_are_damaged_there_is_none(tmp_path: Path) -> None:
    checkpoints = with_checkpoints(tmp_path, 10, 20)
    for path in checkpoints.directory.iterdir():
        path.write_bytes(flipped(path.read_bytes()))
    said: list[str] = []
    assert checkpoints.find_newest(said.append) is None
    assert "are damaged" in said[-1]
    assert len(said) == 3
    assert not (tmp_path / "checkpoint.pth").exists()  # it was one of the damaged
    assert checkpoints.find_newest(say_nothing) is None


def test_where_files_have_no_second_name_a_whole_checkpoint_pth_outlives_all_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_hard_links(monkeypatch)
    checkpoints = with_checkpoints(tmp_path, 10, 20)
    for path in checkpoints.directory.iterdir():
        path.write_bytes(b"")
    assert_holds(tmp_path / "checkpoint.pth", 20)  # a copy: it was not damaged with them
    checkpoints.find_newest([].append)
    assert 20 in [read_checkpoint(path)["iteration"] for path in tmp_path.rglob("*.pth")], (
        "the only whole checkpoint was deleted"
    )


def fail_to_read(monkeypatch: pytest.MonkeyPatch, *iterations: int) -> None:
    """A drive that is away for a while."""
    is_whole = checkpoint_files._is_whole

    def fail(path: Path) -> bool:
        if int(path.name.split("-")[0]) in iterations:
            raise OSError(5, "Input/output error", str(path))
        return is_whole(path)

    monkeypatch.setattr(checkpoint_files, "_is_whole", fail)


def test_what_cannot_be_read_now_is_left_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoints = with_checkpoints(tmp_path, 10, 20)
    before = sorted(tmp_path.rglob("*"))
    said: list[str] = []
    with monkeypatch.context() as patch:
        fail_to_read(patch, 20)
        assert checkpoints.find_newest(said.append) == path_of(checkpoints, 10)
        assert "cannot be read: [Errno 5] Input/output error" in said[0]
        fail_to_read(patch, 10, 20)
        with pytest.raises(ValueError, match=r"cannot be read: .*; to start a new run, move .* away"):
            checkpoints.find_newest(said.append)
    assert sorted(tmp_path.rglob("*")) == before
    assert_holds(checkpoints.find_newest(say_nothing), 20)
    assert_holds(tmp_path / "checkpoint.pth", 20)


def test_nothing_is_found_where_nothing_is(tmp_path: Path) -> None:
    assert CheckpointDirectory(tmp_path / "nowhere").find_newest(say_nothing) is None
    assert not (tmp_path / "nowhere").exists()
    (tmp_path / "checkpoints").mkdir()
    assert CheckpointDirectory(tmp_path).find_newest(say_nothing) is None


def test_a_checkpoint_pth_that_was_put_there_by_hand_is_used(tmp_path: Path) -> None:
    torch.save(checkpoint_of(4), tmp_path / "checkpoint.pth")
    checkpoints = CheckpointDirectory(tmp_path)
    assert checkpoints.find_newest(say_nothing) == tmp_path / "checkpoint.pth"
    checkpoints.save(checkpoint_of(6), 6)
    assert_holds(checkpoints.find_newest(say_nothing), 6)
    assert_holds(tmp_path / "checkpoint.pth", 6)


def test_files_of_other_names_are_left_alone(tmp_path: Path) -> None:
    checkpoints = CheckpointDirectory(tmp_path, keep=1)
    checkpoints.directory.mkdir()
    for name in ("mine.pth", "00000099-copy.pth", "notes.txt"):
        (checkpoints.directory / name).write_bytes(b"mine")
    checkpoints.save(checkpoint_of(1), 1)
    checkpoints.save(checkpoint_of(2), 2)
    assert_holds(checkpoints.find_newest(say_nothing), 2)
    for name in ("mine.pth", "00000099-copy.pth", "notes.txt"):
        assert (checkpoints.directory / name).read_bytes() == b"mine"


def test_what_a_killed_process_left_half_written_does_no_harm(tmp_path: Path) -> None:
    checkpoints = with_checkpoints(tmp_path, 10)
    leftovers = [checkpoints.directory / "writing.tmp", tmp_path / "checkpoint.tmp"]
    for path in leftovers:
        path.write_bytes(b"half")
    assert_holds(checkpoints.find_newest(say_nothing), 10)
    checkpoints.save(checkpoint_of(20), 20)
    assert_holds(checkpoints.find_newest(say_nothing), 20)
    assert_holds(tmp_path / "checkpoint.pth", 20)
    assert (tmp_path / "checkpoint.pth").samefile(path_of(checkpoints, 20))
    assert not any(path.exists() for path in leftovers)


def test_killed_between_the_two_names_a_run_goes_on_with_the_newer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoints = with_checkpoints(tmp_path, 10)
    with monkeypatch.context() as patch:
        patch.setattr(CheckpointDirectory, "_point_to", refuse(errno.EINTR))
        with pytest.raises(InterruptedError):
            checkpoints.save(checkpoint_of(20), 20)
    assert_holds(tmp_path / "checkpoint.pth", 10)
    assert_holds(checkpoints.find_newest(say_nothing), 20)
    path_of(checkpoints, 20).write_bytes(b"")
    assert_holds(checkpoints.find_newest([].append), 10)  # which has its second name already
    assert_holds(tmp_path / "checkpoint.pth", 10)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint.pth", "checkpoints"]


def no_room_to_sync(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", refuse(errno.ENOSPC))


def no_room_to_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "open", refuse(errno.ENOSPC))


def no_room_to_rename(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "replace", refuse(errno.ENOSPC))


@pytest.mark.parametrize("fault", [no_room_to_sync, no_room_to_open, no_room_to_rename])
def test_a_full_disk_is_an_error_that_leaves_everything_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault
) -> None:
    checkpoints = with_checkpoints(tmp_path, 10, 20, 30)
    before = files_in(tmp_path)
    with monkeypatch.context() as patch:
        fault(patch)
        with pytest.raises(OSError, match="No space left") as raised:
            checkpoints.save(checkpoint_of(40), 40)
    assert raised.value.errno == errno.ENOSPC
    assert files_in(tmp_path) == before
    assert_holds(tmp_path / "checkpoint.pth", 30)
    checkpoints.save(checkpoint_of(50), 50)  # there is room again
    assert iterations_in(checkpoints) == [20, 30, 50]
    assert_holds(tmp_path / "checkpoint.pth", 50)


def test_a_full_disk_without_hard_links_leaves_no_half_of_a_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_hard_links(monkeypatch)
    checkpoints = with_checkpoints(tmp_path, 10)
    before = files_in(tmp_path)

    def copy_a_half(source: Path, target: Path) -> None:
        Path(target).write_bytes(Path(source).read_bytes()[:500])
        refuse(errno.ENOSPC)()

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copyfile", copy_a_half)
        with pytest.raises(OSError, match="No space left"):
            checkpoints.save(checkpoint_of(20), 20)
    after = files_in(tmp_path)
    assert {name: after.get(name) for name in before} == before
    assert_holds(tmp_path / "checkpoint.pth", 10)
    assert not list(tmp_path.rglob("*.tmp"))


def test_what_train_py_did_not_write_is_refused(tmp_path: Path) -> None:
    torch.save({"model": {}}, tmp_path / "weights.pth")
    with pytest.raises(ValueError, match=r"weights\.pth was not written by train\.py"):
        read_run(tmp_path / "weights.pth")
    (tmp_path / "garbage.pth").write_bytes(b"garbage")
    with pytest.raises(ValueError, match=r"garbage\.pth: not a checkpoint"):
        read_run(tmp_path / "garbage.pth")


def test_checkpoint_pth_is_the_newest_though_a_process_died_before_pointing_to_it(tmp_path: Path) -> None:
    checkpoints = CheckpointDirectory(tmp_path)
    checkpoints.save({"optimizer": {}, "iteration": 10}, 10)
    old = (tmp_path / "checkpoint.pth").read_bytes()
    newest = checkpoints.save({"optimizer": {}, "iteration": 20}, 20)
    (tmp_path / "checkpoint.pth").unlink()
    (tmp_path / "checkpoint.pth").write_bytes(old)
    assert checkpoints.find_newest(print, repair=False) == newest
    assert read_checkpoint(tmp_path / "checkpoint.pth")["iteration"] == 10
    assert checkpoints.find_newest(print) == newest
    assert read_checkpoint(tmp_path / "checkpoint.pth")["iteration"] == 20


def test_nothing_moves_without_repair(tmp_path: Path) -> None:
    checkpoints = CheckpointDirectory(tmp_path)
    before = checkpoints.save({"optimizer": {}, "iteration": 10}, 10)
    newest = checkpoints.save({"optimizer": {}, "iteration": 20}, 20)
    newest.write_bytes(b"")
    said: list[str] = []
    assert checkpoints.find_newest(said.append, repair=False) == before
    assert "damaged" in said[0]
    assert newest.is_file()
    assert (tmp_path / "checkpoint.pth").samefile(newest)


def test_the_best_stays_when_newer_ones_take_its_place(tmp_path: Path) -> None:
    checkpoints = with_checkpoints(tmp_path, 1, keep=1)
    checkpoints.keep_best()
    checkpoints.save(checkpoint_of(2), 2)
    assert read_checkpoint(tmp_path / "best.pth")["iteration"] == 1
    assert read_checkpoint(tmp_path / "checkpoint.pth")["iteration"] == 2
    assert iterations_in(checkpoints) == [2]
