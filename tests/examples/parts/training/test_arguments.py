"""The options: defaults by recipe, and refusals."""

import os
from argparse import Namespace
from pathlib import Path

import pytest
from parts.reader import cores_of_a_process
from parts.training.arguments import AT_LEAST_1, parse_arguments, settings
from parts.training.defaults import PAPER, SHAPES
from parts.training.options import make_parser
from parts.training.resuming import FREE, LENGTH

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
    assert parse(*data, "--proposals", "learned").num_stages == (PAPER["num_stages"] if data else 4)


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
        (("--batch-size", "8", "--group-size", "3"), "--batch-size 8 must be a multiple of --group-size 3"),
        (("--batch-size", "3", "--group-size", "2"), "--batch-size 3 must be a multiple of --group-size 2"),
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
        (("--minutes", "inf"), "--minutes must be finite"),
        (("--train-images", "mine"), "--train-images needs --data or --train-annotations"),
        (("--val-annotations", "mine"), "--val-annotations needs --data or --train-annotations"),
        (("--classes", "cat"), "--classes needs --data or --train-annotations"),
    ],
)
def test_what_cannot_work_is_refused_in_one_line(
    capsys: pytest.CaptureFixture[str], options: tuple[str, ...], message: str
) -> None:
    assert message in refusal(capsys, *options)


def test_what_cannot_work_is_refused_before_data_are_read(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["--num-proposals", "0"], ["--minutes", "-1"], ["--sizes", "0"], ["--ema", "2"]):
        with pytest.raises(SystemExit):
            parse_arguments(None, ["--data", "nowhere", *words], look=True)
        assert f"{words[0]} must be " in capsys.readouterr().err


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
