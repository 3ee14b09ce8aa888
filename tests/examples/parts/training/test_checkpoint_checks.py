"""A run is resumed only if the entries of its checkpoint fit together. Errors name file and entry."""

import copy
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from parts.training.arguments import parse_arguments
from parts.training.checkpoint_checks import check_resumable
from parts.training.checkpoint_files import CheckpointDirectory
from parts.training.resuming import read_run
from parts.training.training_state import TrainingState
from run_checkpoint import run_checkpoint

from sparse_rcnn.nn import build_from_checkpoint
from sparse_rcnn.nn.checkpoints.checkpoint import Checkpoint, validate_checkpoint


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return validate_checkpoint(run_checkpoint(parse_arguments(None, ["--ema", "0.9"]), step=True))


def test_a_whole_one_is_read_as_it_was(checkpoint: Checkpoint, tmp_path: Path) -> None:
    path = CheckpointDirectory(tmp_path).save(dict(checkpoint.content), 3)
    found = read_run(path)
    assert len(found["digest"]) == 64
    assert found["optimizer"]["state"].keys() == checkpoint.content["optimizer"]["state"].keys()
    broken = {**checkpoint.content, "iteration": -1}
    torch.save(broken, path)
    with pytest.raises(ValueError, match=rf"^{re.escape(str(path))}: iteration must be a whole number"):
        read_run(path)


def test_a_trunk_with_its_own_rate_is_resumed() -> None:
    arguments = parse_arguments(None, ["--backbone-multiplier", "0.1"])
    content = validate_checkpoint(run_checkpoint(arguments, step=True)).content
    check_resumable(validate_checkpoint(content))
    state = TrainingState(build_from_checkpoint(content), arguments, torch.device("cpu"))
    state.load(content)
    trunk = state.optimizer.param_groups[1]
    assert trunk["lr"] == pytest.approx(0.1 * state.learning_rate())
    for name, parameter in state.model.named_parameters():
        assert state.optimizer.state[parameter]["exp_avg"].shape == parameter.shape, name
    assert {id(parameter) for parameter in trunk["params"]} == {
        id(parameter) for parameter in state.model.backbone.trunk.parameters()
    }


def moment(name: str, value: Any) -> tuple[tuple[Any, ...], Any]:
    return ("optimizer", "state", 2, name), value


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (
            *moment("exp_avg", torch.zeros(2)),
            r"parameter 2: exp_avg must be finite and of shape \(64,\)",
        ),
        (*moment("exp_avg_sq", torch.zeros(())), r"parameter 2: exp_avg_sq must be finite and of shape"),
        (*moment("exp_avg_sq", -torch.ones(64)), "parameter 2: exp_avg_sq is a mean of squares"),
        (*moment("exp_avg", torch.full((64,), float("nan"))), "parameter 2: exp_avg must be finite"),
        (*moment("step", -1), "parameter 2: step must be a number of at least 0"),
        (("optimizer", "state", 10**6), {}, "optimizer: state must be of the parameters 0 to"),
        (("optimizer", "param_groups", 0, "params"), [0], "optimizer: its parameters must be 0 to"),
        (("optimizer", "param_groups", 0, "maximize"), True, "maximize must be off"),
        (("optimizer", "param_groups", 0, "lr"), "x", "lr must be a number"),
        (("optimizer",), [], r"optimizer must be a dict, got \[\]"),
        (("schedule", "last_epoch"), 1.5, "schedule: last_epoch must be a whole number"),
        (("schedule", "step"), 1, "schedule: entry 'step' does not belong to a schedule"),
        (("schedule", "base_lrs"), [], "schedule: base_lrs must be 1 numbers"),
        (("scaler",), {"scale": 1}, "scaler must have"),
        (("trained", "proposals.features"), torch.zeros(1), "'trained' does not fit 'model': misshapen key"),
        (("arguments",), {"seed": torch.zeros(2)}, "arguments must be a dict of options"),
        (("seconds",), float("nan"), "seconds must be a number of at least 0"),
        (("unreadable",), [1], "unreadable must be a list of strings"),
        (("random_states",), [{}], r"random_states\[0\] is no state of the generators"),
        (("num_averaged",), None, "num_averaged must be a whole number"),
    ],
)
def test_what_does_not_fit_is_named(
    checkpoint: Checkpoint, path: tuple[Any, ...], value: Any, message: str
) -> None:
    content = place = dict(checkpoint.content)
    for key in path[:-1]:
        place[key] = copy.copy(place[key])
        place = place[key]
    place[path[-1]] = value
    with pytest.raises(ValueError, match=message):
        check_resumable(checkpoint._replace(content=content))


@pytest.mark.parametrize("name", ["schedule", "arguments", "iteration", "num_averaged", "trained"])
def test_what_is_missing_is_named(checkpoint: Checkpoint, name: str) -> None:
    content = {key: value for key, value in checkpoint.content.items() if key != name}
    with pytest.raises(ValueError, match=rf"'{name}'.*(is missing|one is missing)"):
        check_resumable(checkpoint._replace(content=content))
