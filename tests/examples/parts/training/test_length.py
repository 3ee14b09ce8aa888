"""A budget of time is kept at any speed, and the schedule ends with it."""

import time
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from parts.training.arguments import parse_arguments
from parts.training.length import Length, estimate_length, seconds_of_a_step
from parts.training.processes import Processes
from parts.training.training_state import TrainingState, learning_rate_factor
from small_model import build_small_model

from sparse_rcnn.data import ShapesDataset

ALONE = Processes(0, 0, 1, torch.device("cpu"))


def length_of(start: int, *options: str, spent: float = 0.0) -> Any:
    arguments = parse_arguments(None, [*options, "--warmup", "2"])
    return Length(arguments, SimpleNamespace(spent=spent), ALONE, start), arguments  # type: ignore[arg-type]


def test_minutes_are_those_of_the_steps_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    length, arguments = length_of(0, "--minutes", "1")
    factors, parts, steps = [], [], []
    for iteration in length.steps(0):
        now[0] += 4 if iteration <= 5 else 2  # seconds: it gets faster
        length.note(iteration)
        now[0] += 100  # an evaluation
        steps.append(iteration)
        factors.append(learning_rate_factor(arguments, iteration))
        parts += [iteration] * length.ends_part
    assert steps == list(range(1, 26))  # 5 of 4 s and 20 of 2 s
    assert arguments.iterations == 25
    assert length.run.spent == 60
    assert parts == [4, 10, 18]  # after 16, 30 and 46 s: a quarter, a half, three quarters
    assert factors[9] == pytest.approx(0.5)
    assert factors[-1] == pytest.approx(0)


def test_a_run_that_goes_on_has_the_time_that_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "process_time", lambda: now[0])
    length, arguments = length_of(7, "--minutes", "1", "--clock", "cpu", spent=55.0)
    arguments.iterations = 8
    for iteration in length.steps(7):
        now[0] += 2
        length.note(iteration)
    assert arguments.iterations == 10


def test_steps_are_counted_and_parts_end_at_quarters() -> None:
    length, _ = length_of(0, "--iterations", "8")
    parts = []
    for iteration in length.steps(0):
        length.note(iteration)
        parts += [iteration] * length.ends_part
        if iteration == 7:
            length.end(7)
    assert parts == [2, 4, 6]


def test_measuring_changes_nothing_and_tells_hours_and_days(
    tmp_path: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = parse_arguments(None, ["--batch-size", "4", "--iterations", "100000000"])
    dataset = ShapesDataset(tmp_path, "train", 4, image_size=64)
    model = build_small_model(proposals="dense", backbone_norm="batch", num_classes=6).train()
    state = TrainingState(model, arguments, ALONE.device)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    random = torch.get_rng_state()
    assert seconds_of_a_step(arguments, state, dataset, ALONE) > 0
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    run: Any = SimpleNamespace(spent=0.0)
    monkeypatch.setattr("parts.training.length.seconds_of_a_step", lambda *_: 0.5)
    estimate_length(arguments, state, run, dataset, ALONE, 0)
    said = capsys.readouterr().out
    assert "100000000.0 epochs of 4: about 13888.9 h of training at 0.50 s a step" in said
    assert "that is 578.7 days" in said
    arguments.minutes = 2.0
    estimate_length(arguments, state, run, dataset, ALONE, 0)
    assert arguments.iterations == 240


def test_a_resumed_run_expects_the_steps_that_it_expected_before(tmp_path: Any) -> None:
    before, expected = length_of(0, "--minutes", "1")
    before._clock = lambda: 24.9  # of 60 s, after 10 steps
    before.note(10)
    dataset = ShapesDataset(tmp_path, "train", 1, image_size=64)
    resumed = parse_arguments(None, ["--minutes", "1"])
    state: Any = None  # nothing is measured
    estimate_length(resumed, state, before.run, dataset, ALONE, 10)
    assert resumed.iterations == expected.iterations == 24


def test_the_step_schedule_follows_minutes() -> None:
    arguments = parse_arguments(None, ["--minutes", "5", "--schedule", "step"])
    arguments.iterations = 1000  # expected by now
    factors = [learning_rate_factor(arguments, iteration) for iteration in (100, 777, 778, 926)]
    assert factors == pytest.approx([1, 0.1, 0.1, 0.01])
