"""The options: defaults by recipe, what is refused, and what may differ when a run goes on."""

import os
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest
from parts.reader import cores_of_a_process
from parts.training.arguments import (
    AT_LEAST_1,
    FREE,
    LENGTH,
    PAPER,
    SHAPES,
    differences,
    make_parser,
    parse_arguments,
    settings,
)

COCO = ("--data", "coco")


def parse(*options: str) -> Namespace:
    return parse_arguments("what it does", list(options))


def refusal(capsys: pytest.CaptureFixture[str], *options: str) -> str:
    """The line that says why the options are refused."""
    with pytest.raises(SystemExit) as stopped:
        parse(*options)
    assert stopped.value.code == 2
    return capsys.readouterr().err.splitlines()[-1]


def test_with_data_the_recipe_is_the_papers() -> None:
    arguments = parse(*COCO)
    workers = {"workers": min(PAPER["workers"], cores_of_a_process())}
    assert {key: getattr(arguments, key) for key in PAPER} == {**PAPER, **workers}
    assert arguments.given == set()
    expected = {
        **{"backbone": "resnet50", "num_proposals": 100, "num_stages": 6, "hidden_dim": 256},
        **{"dynamic_dim": 64, "feedforward_dim": 2048, "num_heads": 8, "batch_size": 16},
        **{"iterations": 270_000, "learning_rate": 2.5e-5, "weight_decay": 1e-4, "clip_norm": 1.0},
        **{"schedule": "step", "steps": [210_000, 250_000], "warmup": 1000, "max_size": 1333},
        **{"sizes": [480, 512, 544, 576, 608, 640, 672, 704, 736, 768, 800], "eval_size": 800},
        **{"precision": "fp32", "ema": 0.0, "crop": False, "seed": 0, "group_size": 2},
    }
    assert {key: getattr(arguments, key) for key in expected} == expected


def test_readers_are_no_more_than_the_cores_of_a_process_unless_given(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: range(6), raising=False)
    found = []
    for processes in ("1", "2", "8"):
        monkeypatch.setenv("LOCAL_WORLD_SIZE", processes)
        found.append((parse(*COCO).workers, parse(*COCO, "--workers", "9").workers))
    assert found == [(4, 9), (3, 9), (1, 9)]


def test_without_data_the_recipe_is_that_of_the_shapes() -> None:
    arguments = parse()
    assert {key: getattr(arguments, key) for key in SHAPES} == SHAPES
    assert arguments.data is None
    assert arguments.output == "runs/shapes"
    assert (arguments.schedule, arguments.warmup) == ("cosine", 100)


@pytest.mark.parametrize("data", [(), COCO])
def test_what_is_given_goes_before_the_recipe(data: tuple[str, ...]) -> None:
    arguments = parse(*data, "--hidden-dim", "32", "--sizes", "64", "96", "--backbone", "resnet34")
    assert (arguments.hidden_dim, arguments.sizes, arguments.backbone) == (32, [64, 96], "resnet34")
    assert arguments.given == {"hidden_dim", "sizes", "backbone"}
    assert arguments.num_stages == (PAPER if data else SHAPES)["num_stages"]


def test_what_is_given_counts_as_given_even_if_it_is_the_default() -> None:
    assert parse(*COCO, "--hidden-dim", "256").given == {"hidden_dim"}


@pytest.mark.parametrize(
    ("data", "batch", "rate"), [(COCO, 32, 5e-5), (COCO, 16, 2.5e-5), (COCO, 2, 3.125e-6)]
)
def test_the_learning_rate_follows_the_batch_only_if_asked_to(
    data: tuple[str, ...], batch: int, rate: float
) -> None:
    options = (*data, "--batch-size", str(batch))
    assert parse(*options).learning_rate == 2.5e-5
    assert parse(*options, "--scale-learning-rate").learning_rate == pytest.approx(rate)
    given = parse(*options, "--scale-learning-rate", "--learning-rate", "1e-3").learning_rate
    assert given == pytest.approx(1e-3 * batch / 16)


@pytest.mark.parametrize(("batch", "group"), [(16, 2), (2, 2), (6, 2), (1, 1), (3, 1), (15, 1)])
def test_images_of_one_orientation_come_in_pairs_unless_the_batch_is_odd(batch: int, group: int) -> None:
    assert parse("--batch-size", str(batch)).group_size == group
    assert parse("--batch-size", str(batch), "--group-size", "1").group_size == 1
    assert parse("--batch-size", str(batch), "--group-size", str(batch)).group_size == batch


@pytest.mark.parametrize(
    ("options", "warmup", "steps"),
    [
        ((), 1000, [210_000, 250_000]),
        (("--iterations", "90000"), 1000, [70_000, 83_333]),
        (("--iterations", "2000"), 200, [1555, 1851]),
        (("--iterations", "5"), 0, [3, 4]),
        (("--iterations", "2000", "--warmup", "1500"), 1500, [1555, 1851]),
        (("--warmup", "0"), 0, [210_000, 250_000]),
        (("--steps", "5", "7", "9"), 1000, [5, 7, 9]),
        (("--steps",), 1000, []),
    ],
)
def test_warm_up_and_steps_follow_the_length_unless_given(
    options: tuple[str, ...], warmup: int, steps: list[int]
) -> None:
    arguments = parse(*COCO, *options)
    assert (arguments.warmup, arguments.steps) == (warmup, steps)


@pytest.mark.parametrize("name", AT_LEAST_1)
@pytest.mark.parametrize("value", ["0", "-2"])
def test_counts_are_at_least_one(capsys: pytest.CaptureFixture[str], name: str, value: str) -> None:
    option = f"--{name.replace('_', '-')}"
    assert refusal(capsys, option, value).endswith(f"error: {option} must be at least 1, got {value}")
    others = {"--group-size", "--num-heads"} - {option}
    words = [word for other in others for word in (other, "1")]
    assert getattr(parse(option, "1", *words), name) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--ema", "1"), "--ema must be at least 0 and less than 1, got 1.0"),
        (("--ema", "-0.1"), "--ema must be at least 0 and less than 1, got -0.1"),
        (("--ema", "nan"), "--ema must be at least 0 and less than 1, got nan"),
        (("--batch-size", "8", "--group-size", "3"), "--batch-size 8 is not made of --group-size 3"),
        (("--batch-size", "3", "--group-size", "2"), "--batch-size 3 is not made of --group-size 2"),
        (("--seed", "-1"), "--seed must be at least 0, got -1"),
        (("--warmup", "-1"), "--warmup must be at least 0, got -1"),
        (("--workers", "-2"), "--workers must be at least 0, got -2"),
        (("--learning-rate", "0"), "--learning-rate must be above 0, got 0.0"),
        (("--learning-rate", "nan"), "--learning-rate must be above 0, got nan"),
        (("--clip-norm", "-1"), "--clip-norm must be above 0, got -1.0"),
        (("--sizes", "0", "5"), "--sizes must be at least 1, got 0"),
        (("--backbone", "vgg"), "argument --backbone: invalid choice: 'vgg'"),
        (("--proposal-init", "none"), "argument --proposal-init: invalid choice: 'none'"),
        (("--regression-layers", "-1"), "--regression-layers must be at least 0, got -1"),
        (("--weight-decay", "nan"), "--weight-decay must be at least 0, got nan"),
        (("--learning-rate", "inf"), "--learning-rate must be finite"),
        (("--hidden-dim", "100"), "--hidden-dim 100 must be a multiple of --num-heads 8"),
        (
            ("--recompute-backbone", "--weights", "elsewhere.pth", "--backbone-norm", "batch"),
            "--recompute-backbone needs --backbone-norm frozen or group",
        ),
        (("--recompute-backbone",), "--recompute-backbone needs --backbone-norm frozen or group"),
        (("--max-unreadable", "-1"), "--max-unreadable must be at least 0, got -1"),
        (("--crop",), "--crop and --vertical-flip need --data"),
        (("--vertical-flip",), "--crop and --vertical-flip need --data"),
        (("--compile", "nothing"), "--compile must be one of"),
        (("--weights", "runs/shapes/checkpoint.pth"), "--weights must not lie in --output"),
        ((*COCO, "--weights", "runs/coco/checkpoints/a.pth"), "--weights must not lie in --output"),
        (("--output", "here", "--weights", "there/../here/a.pth"), "--weights must not lie in --output"),
        (("--schedule", "linear"), "invalid choice: 'linear'"),
        (("--precision", "fp8"), "invalid choice: 'fp8'"),
        (("--iterations", "many"), "invalid int value: 'many'"),
    ],
)
def test_what_cannot_work_is_refused_in_one_line(
    capsys: pytest.CaptureFixture[str], options: tuple[str, ...], message: str
) -> None:
    assert message in refusal(capsys, *options)


@pytest.mark.parametrize(
    "options",
    [
        ("--ema", "0"),
        ("--ema", "0.9998"),
        ("--max-unreadable", "0"),
        ("--compile",),
        ("--compile", "eager"),
        (*COCO, "--crop", "--vertical-flip"),
        ("--weights", "runs/shapes.1/checkpoint.pth"),
        ("--weights", "runs/shapes_other.pth"),
        ("--eval-interval", "0", "--workers", "0"),
    ],
)
def test_what_can_work_is_accepted(options: tuple[str, ...]) -> None:
    parse(*options)


def test_compile_alone_means_inductor() -> None:
    assert parse().compile is None
    assert parse("--compile").compile == "inductor"


def test_weights_beside_a_linked_output_are_not_in_it_but_those_in_it_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    options = ("--output", str(tmp_path / "link"), "--weights")
    assert "must not lie" in refusal(capsys, *options, str(tmp_path / "real" / "checkpoint.pth"))
    parse(*options, str(tmp_path / "checkpoint.pth"))


def test_resume_may_be_wanted_or_not_or_left_open() -> None:
    found = [parse(*options).resume for options in ((), ("--resume",), ("--no-resume",))]
    assert found == [None, True, False]


def test_settings_are_plain_data_without_what_was_given() -> None:
    found = settings(parse(*COCO, "--hidden-dim", "64"))
    assert "given" not in found
    assert found["hidden_dim"] == 64
    for value in found.values():
        assert value is None or isinstance(value, (bool, int, float, str, list))


def test_every_default_is_in_the_help_and_none_is_forgotten() -> None:
    text = make_parser("what it does").format_help()
    assert "(2.5e-05; without --data: 0.0008)" in " ".join(text.split())
    options = vars(make_parser(None).parse_args([]))
    assert options.keys() >= PAPER.keys() == SHAPES.keys()
    assert options.keys() >= FREE | LENGTH | set(AT_LEAST_1)  # no name there is misspelt
    assert all(options[key] is None for key in PAPER)


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
