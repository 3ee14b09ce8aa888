"""Which run goes on, and why another does not."""

from argparse import Namespace
from pathlib import Path

import pytest
import torch
from parts.training.arguments import differences, parse_arguments, settings
from parts.training.checkpoints import CheckpointDirectory
from parts.training.processes import LAUNCH, Processes, launch_name
from parts.training.run_directory import find_run, read_resumed
from run_checkpoint import run_checkpoint

ALONE = Processes(0, 0, 1, torch.device("cpu"))


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """A run of 1300 iterations that was interrupted at 3."""
    checkpoint = run_checkpoint(parse_arguments(None, ["--output", str(tmp_path / "run")]))
    CheckpointDirectory(tmp_path / "run").save(checkpoint, 3)
    return tmp_path / "run"


def find(output: Path, *options: str) -> tuple[Path | None, str]:
    arguments = parse_arguments(None, ["--output", str(output), *options])
    return find_run(arguments, CheckpointDirectory(output), ALONE)


@pytest.mark.parametrize(
    "options", [(), ("--workers", "3"), ("--resume",), ("--resume", "--iterations", "9")]
)
def test_an_interrupted_run_of_the_same_options_goes_on(output: Path, options: tuple[str, ...]) -> None:
    found, reason = find(output, *options)
    assert found is not None
    assert found.parent == output / "checkpoints"
    assert reason == ""


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("--seed", "1"), "--seed was 0, not 1"),
        (("--iterations", "9"), "--iterations was 1300, not 9"),
        (("--ema", "0.9", "--precision", "bf16"), "--ema was 0.0, not 0.9; --precision was fp32, not bf16"),
        (("--no-resume",), "--no-resume"),
    ],
)
def test_any_other_does_not_and_why(output: Path, options: tuple[str, ...], reason: str) -> None:
    assert find(output, *options) == (None, reason)
    # Where it was, for there may be something wrong with this command.
    assert (output / "checkpoint.pth").is_file()


def test_an_option_that_was_not_there_yet_had_its_default(output: Path) -> None:
    directory = CheckpointDirectory(output)
    newest = directory.find_newest(print)
    assert newest is not None
    checkpoint = torch.load(newest)
    del checkpoint["arguments"]["positional_encoding"]
    directory.save({**checkpoint, "iteration": 4}, 4)
    assert find(output)[0] is not None
    assert find(output, "--positional-encoding") == (None, "--positional-encoding was False, not True")


def test_paths_mean_the_same_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def arguments_of(data: str, trunk: str) -> Namespace:
        return parse_arguments(None, ["--data", data, "--backbone-weights", trunk])

    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    before = settings(arguments_of("photos", "trunk.pth"))
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert differences(before, arguments_of("../photos", "../trunk.pth")) == []
    (reason,) = differences(before, arguments_of("../photos", "trunk.pth"))
    assert reason.startswith("--backbone-weights was ")
    assert differences(settings(parse_arguments(None, [])), parse_arguments(None, [])) == []


def test_a_complete_run_goes_on_only_if_it_is_to(output: Path) -> None:
    (output / "summary.json").write_text("{}")
    assert find(output, "--resume", "--iterations", "2000")[0] is not None
    assert find(output) == (None, "complete")


def test_what_torchrun_starts_again_goes_on_whatever_the_options(
    output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "this")
    assert find(output, "--no-resume") == (None, "--no-resume")  # of another launch: nothing of it has begun
    (output / LAUNCH).write_text(launch_name())
    assert find(output, "--no-resume")[0] is not None
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "another")
    assert find(output, "--no-resume") == (None, "--no-resume")


def test_a_file_of_no_torchrun_means_nothing(output: Path) -> None:
    (output / LAUNCH).write_text(launch_name())
    assert launch_name() == ""
    assert find(output, "--no-resume") == (None, "--no-resume")


def test_nothing_to_resume_is_an_error_only_if_asked_for(tmp_path: Path) -> None:
    assert find(tmp_path / "new") == (None, "")
    with pytest.raises(ValueError, match="new: there is no checkpoint to resume"):
        find(tmp_path / "new", "--resume")


@pytest.mark.parametrize(
    ("options", "changes", "message"),
    [
        (("--resume", "--seed", "1"), {}, "--seed was 0, not 1: give the same to resume"),
        ((), {"num_images": 11}, "num_images was 10, not 11"),
        ((), {"class_names": ["b"]}, "class_names was"),
        (("--resume", "--iterations", "2"), {}, "is at iteration 3, after --iterations 2"),
    ],
)
def test_a_run_of_something_else_is_not_resumed(
    output: Path, options: tuple[str, ...], changes: dict, message: str
) -> None:
    arguments = parse_arguments(None, ["--output", str(output), *options])
    now = {"class_names": ["a"], "num_images": 10, **changes}
    with pytest.raises(ValueError, match=message):
        read_resumed(output / "checkpoint.pth", arguments, **now)
