"""Which run is resumed, and why another one is not."""

from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest
import torch
from parts.training.arguments import parse_arguments, settings
from parts.training.checkpoint_files import CheckpointDirectory
from parts.training.defaults import PAPER
from parts.training.processes import LAUNCH, Processes, launch_name
from parts.training.resuming import FREE, LENGTH, differences, find_run, read_resumed
from run_checkpoint import run_checkpoint

DIGESTS = {"train images": "aa", "train boxes": "bb"}
ALONE = Processes(0, 0, 1, torch.device("cpu"))


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """A run of 1200 iterations that was interrupted at 3."""
    checkpoint = run_checkpoint(parse_arguments(None, ["--output", str(tmp_path / "run")]))
    CheckpointDirectory(tmp_path / "run").save(checkpoint, 3)
    return tmp_path / "run"


COCO = ("--data", "coco")


def parse(*options: str) -> Namespace:
    return parse_arguments(None, list(options))


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
        (("--iterations", "9"), "--iterations was 1200, not 9"),
        (("--ema", "0.9", "--precision", "bf16"), "--ema was 0.993, not 0.9; --precision was fp32, not bf16"),
        (("--no-resume",), "--no-resume"),
    ],
)
def test_any_other_does_not_and_why(output: Path, options: tuple[str, ...], reason: str) -> None:
    assert find(output, *options) == (None, reason)
    # Where it was, for there may be something wrong with this command.
    assert (output / "checkpoint.pth").is_file()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("--positional-encoding",), "--positional-encoding was False, not True"),
        (("--backbone-multiplier", "0.1"), "--backbone-multiplier was 1.0, not 0.1"),
        (("--class-targets", "one"), ""),
    ],
)
def test_an_option_that_was_not_there_yet_had_its_default(
    output: Path, options: tuple[str, ...], reason: str
) -> None:
    directory = CheckpointDirectory(output)
    newest = directory.find_newest(print)
    assert newest is not None
    checkpoint = torch.load(newest)
    del checkpoint["arguments"][options[0][2:].replace("-", "_")]
    directory.save({**checkpoint, "iteration": 4}, 4)
    if reason:
        assert find(output)[0] is not None
        assert find(output, *options) == (None, reason)
    else:  # the shapes' default is another now
        assert find(output) == (None, "--class-targets was one, not iou")
        assert find(output, *options)[0] is not None


def test_a_run_keeps_the_precision_that_was_measured(tmp_path: Path) -> None:
    def small(*options: str) -> Namespace:
        arguments = parse("--output", str(tmp_path), *options)
        arguments.recipe = "small"
        return arguments

    began = small()
    began.precision = "bf16"
    directory = CheckpointDirectory(tmp_path)
    directory.save(run_checkpoint(began), 3)
    again = small()  # measured as fp32 this time
    again.table = "recipe"
    path, reason = find_run(again, directory, ALONE)
    assert path is not None
    assert (reason, again.precision) == ("", "bf16")
    assert again.table.endswith("but --precision bf16, with which the run began")
    assert read_resumed(path, again, ["a"], 10, DIGESTS)["iteration"] == 3
    given, other = small("--precision", "fp32"), small("--seed", "1")
    assert find_run(given, directory, ALONE) == (None, "--precision was bf16, not fp32")
    assert find_run(other, directory, ALONE) == (None, "--seed was 0, not 1")
    assert other.precision == "fp32"  # a new run has the new measurement


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
    assert find(output, "--no-resume") == (None, "--no-resume")  # of another launch that has not begun
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
        ((), {"digests": {**DIGESTS, "train images": "cc"}}, "names of the train images are not those with"),
        (("--resume", "--iterations", "2"), {}, "is at iteration 3, after --iterations 2"),
    ],
)
def test_a_run_of_something_else_is_not_resumed(
    output: Path, options: tuple[str, ...], changes: dict, message: str
) -> None:
    arguments = parse_arguments(None, ["--output", str(output), *options])
    now = {"class_names": ["a"], "num_images": 10, "digests": DIGESTS, **changes}
    with pytest.raises(ValueError, match=message):
        read_resumed(output / "checkpoint.pth", arguments, **now)


def test_the_same_options_do_not_differ() -> None:
    for options in ((), COCO, ("--scale-learning-rate", "--batch-size", "4")):
        assert differences(settings(parse(*options)), parse(*options)) == []


def test_every_other_option_is_named_with_both_values() -> None:
    before = settings(parse(*COCO))
    now = parse(*COCO, "--seed", "1", "--hidden-dim", "128", "--crop", "--sizes", "64")
    assert differences(before, now) == [
        "--crop was False, not True",
        "--hidden-dim was 256, not 128",
        "--seed was 0, not 1",
        f"--sizes was {PAPER['sizes']}, not [64]",
    ]


def other_than(value: Any) -> Any:
    if value is None or isinstance(value, str):
        return "other"
    return [1] if isinstance(value, list) else value + 1


@pytest.mark.parametrize("resume", [None, True, False])
def test_only_where_and_how_often_may_differ_and_the_length_if_it_is_meant(resume: bool | None) -> None:
    arguments = parse(*COCO)
    arguments.resume = resume
    before = settings(arguments)
    for name, value in before.items():
        if name == "resume":
            continue
        found = differences({**before, name: other_than(value)}, arguments)
        may = name in FREE or (name in LENGTH and resume is True)
        assert found == ([] if may else [f"--{name.replace('_', '-')} was {other_than(value)}, not {value}"])
    assert differences({**before, "resume": "other"}, arguments) == []


@pytest.mark.parametrize(
    ("free", "options"),
    [
        (True, ("--data", "elsewhere", "--output", "o", "--device", "cpu", "--workers", "9", "--dry-run")),
        (
            True,
            (
                "--accumulate",
                "4",
                "--recompute-head",
                "--recompute-backbone",
                "--compile",
                "eager",
                "--keep-checkpoints",
                "9",
            ),
        ),
        (True, ("--checkpoint-interval", "5", "--checkpoint-minutes", "1", "--log-interval", "3")),
        (True, ("--eval-interval", "5", "--eval-batch-size", "7", "--max-bad-batches", "3")),
        (True, ("--max-unreadable", "3", "--freed-memory", "return")),
        (False, ("--batch-size", "8")),
        (False, ("--group-size", "4")),
        (False, ("--precision", "bf16")),
        (False, ("--ema", "0.9")),
        (False, ("--clip-norm", "2")),
        (False, ("--weight-decay", "0.05")),
        (False, ("--scale-learning-rate",)),
        (False, ("--eval-size", "600")),
        (False, ("--drop-degenerate-boxes",)),
        (False, ("--weights", "a.pth")),
    ],
)
def test_a_run_goes_on_with_other_options_of_these_alone(free: bool, options: tuple[str, ...]) -> None:
    before = settings(parse(*COCO, "--resume"))
    assert (differences(before, parse(*COCO, "--resume", *options)) == []) == free


def test_a_run_may_be_made_longer_only_on_purpose() -> None:
    before = settings(parse(*COCO))
    longer = ("--iterations", "300000")
    assert differences(before, parse(*COCO, *longer, "--resume")) == []
    assert "--iterations was 270000, not 300000" in differences(before, parse(*COCO, *longer))
    other_steps = differences(before, parse(*COCO, "--steps", "7"))
    assert other_steps == ["--steps was [210000, 250000], not [7]"]
    assert differences(before, parse(*COCO, "--warmup", "7")) == ["--warmup was 1000, not 7"]


def test_options_that_a_version_before_did_not_know_do_not_count() -> None:
    before = settings(parse())
    del before["group_size"]
    before["forgotten"] = 1
    assert differences(before, parse()) == []
