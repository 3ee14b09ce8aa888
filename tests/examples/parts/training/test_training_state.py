"""The state of training: saved, loaded and left unchanged by skipped steps, to the last bit."""

import copy
import io
import math
import warnings
from argparse import Namespace
from typing import Any

import pytest
import torch
from parts.training.arguments import parse_arguments
from parts.training.training_state import TrainingState, learning_rate_factor, parameter_groups
from small_model import build_small_model
from torch import Tensor, nn

CPU = torch.device("cpu")


def recipe(**changes: Any) -> Namespace:
    options = {
        **{
            "ema": 0.0,
            "clip_norm": 1.0,
            "learning_rate": 0.05,
            "backbone_multiplier": 1.0,
            "weight_decay": 0.1,
            "precision": "fp32",
        },
        **{"schedule": "cosine", "iterations": 20, "warmup": 5, "steps": [], "minutes": None},
    }
    return Namespace(**{**options, **changes})


def make_state(arguments: Namespace, seed: int = 0) -> TrainingState:
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 3))
    model[0].bias.requires_grad = False
    return TrainingState(model.train(), arguments, CPU)


def images_of(iteration: int) -> Tensor:
    return torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(iteration))


def forward_backward(state: TrainingState, images: Tensor) -> float:
    """Makes a step as train.py does, and returns the norm of the gradient."""
    state.begin()
    loss = (state.model(images) - 1).square().sum()
    state.scaler.scale(loss).backward()
    return state.clip().item()


def step(state: TrainingState, iteration: int) -> None:
    assert math.isfinite(forward_backward(state, images_of(iteration)))
    state.advance()


def bad_step(state: TrainingState) -> None:
    assert not math.isfinite(forward_backward(state, torch.full((2, 3, 8, 8), torch.nan)))
    state.skip()


def through_a_file(checkpoint: dict[str, Any]) -> dict[str, Any]:
    buffer = io.BytesIO()
    torch.save(checkpoint, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=True)


def bits(value: Any) -> Any:
    """Nested plain data and tensors in a form that is equal only if all bits are equal."""
    if isinstance(value, dict):
        return {key: bits(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [bits(part) for part in value]
    return (value.dtype, value.numpy().tobytes()) if isinstance(value, Tensor) else value


def assert_same_bits(found: Any, expected: Any) -> None:
    assert bits(found) == bits(expected)


@pytest.mark.parametrize("decay", [0.3, 0.9998])
def test_the_average_is_that_of_a_loop_by_hand(decay: float) -> None:
    state = make_state(recipe(ema=decay))
    expected: dict[str, Tensor] = {}
    for iteration in range(6):
        step(state, iteration)
        for name, parameter in state.model.named_parameters():
            now = parameter.detach().double()
            # The first average is that of the weights after the first step, not of those before.
            kept = min(decay, (1 + iteration) / (3 + iteration))  # little of the first steps
            expected[name] = now.clone() if iteration == 0 else kept * expected[name] + (1 - kept) * now
    found = dict(state.evaluated.named_parameters())
    assert found.keys() == expected.keys()
    for name, parameter in found.items():
        torch.testing.assert_close(parameter.detach().double(), expected[name], rtol=1e-6, atol=1e-7)
    assert not torch.equal(found["3.weight"], state.model[3].weight)
    assert_same_bits(dict(state.evaluated.named_buffers()), dict(state.model.named_buffers()))


def test_the_average_is_what_is_evaluated_and_the_model_of_the_checkpoint() -> None:
    state = make_state(recipe(ema=0.9))
    assert state.evaluated is not state.model
    for iteration in range(3):
        step(state, iteration)
    checkpoint = through_a_file(state.to_checkpoint())
    assert_same_bits(checkpoint["model"], state.evaluated.state_dict())
    assert_same_bits(checkpoint["trained"], state.model.state_dict())
    assert checkpoint["num_averaged"] == 3
    assert checkpoint["model"].keys() == state.model.state_dict().keys()
    assert not torch.equal(checkpoint["model"]["3.weight"], checkpoint["trained"]["3.weight"])


def test_without_an_average_the_model_is_the_model() -> None:
    state = make_state(recipe())
    step(state, 0)
    assert state.evaluated is state.model
    checkpoint = state.to_checkpoint()
    assert "trained" not in checkpoint
    assert "num_averaged" not in checkpoint
    assert_same_bits(checkpoint["model"], state.model.state_dict())


def test_parameters_that_do_not_train_are_left_out() -> None:
    state = make_state(recipe())
    before = state.model[0].bias.clone()
    step(state, 0)
    assert torch.equal(state.model[0].bias, before)
    assert len(state.optimizer.state_dict()["state"]) == len(list(state.model.parameters())) - 1


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("ema", [0.0, 0.9])
@pytest.mark.parametrize("steps_before", [1, 4])
def test_a_run_that_was_taken_up_again_ends_like_one_that_was_not(
    ema: float, precision: str, steps_before: int
) -> None:
    arguments = recipe(ema=ema, precision=precision)

    def run(state: TrainingState, first: int, end: int) -> TrainingState:
        for iteration in range(first, end):
            if iteration % 3 == 2:
                bad_step(state)
            else:
                step(state, iteration)
        return state

    uninterrupted = run(make_state(arguments), 0, 12)
    checkpoint = through_a_file(run(make_state(arguments), 0, steps_before).to_checkpoint())
    resumed = make_state(arguments, seed=99)
    assert bits(resumed.to_checkpoint()) != bits(checkpoint)
    resumed.load(checkpoint)
    assert_same_bits(through_a_file(resumed.to_checkpoint()), checkpoint)
    run(resumed, steps_before, 12)
    assert_same_bits(resumed.to_checkpoint(), uninterrupted.to_checkpoint())
    scales = {"fp32": 1.0, "fp16": 65536 / 2**4}  # halved by each of the bad steps
    assert resumed.scaler.get_scale() == scales[precision]


@pytest.mark.parametrize("schedule", ["step", "cosine"])
def test_a_run_that_is_made_longer_goes_on_with_the_longer_schedule(schedule: str) -> None:
    short = recipe(iterations=10, steps=[7, 9], schedule=schedule)
    state = make_state(short)
    for iteration in range(10):
        step(state, iteration)
    longer = recipe(iterations=40, steps=[31, 37], schedule=schedule)
    resumed = make_state(longer)
    resumed.load(through_a_file(state.to_checkpoint()))
    rates = []
    for iteration in range(10, 20):
        rates.append(resumed.optimizer.param_groups[0]["lr"])
        assert resumed.schedule.get_last_lr() == rates[-1:]
        step(resumed, iteration)
    assert rates == pytest.approx([0.05 * learning_rate_factor(longer, i) for i in range(10, 20)])


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("ema", [0.0, 0.9])
@pytest.mark.parametrize("steps_before", [0, 3])
def test_a_skipped_step_changes_nothing_but_the_schedule(
    ema: float, precision: str, steps_before: int
) -> None:
    state = make_state(recipe(ema=ema, precision=precision))
    for iteration in range(steps_before):
        step(state, iteration)
    before = copy.deepcopy(state.to_checkpoint())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        bad_step(state)
    after = copy.deepcopy(state.to_checkpoint())
    assert after["schedule"]["last_epoch"] == steps_before + 1
    rate = 0.05 * learning_rate_factor(recipe(), steps_before + 1)
    assert state.schedule.get_last_lr() == [pytest.approx(rate)]
    assert state.optimizer.param_groups[0]["lr"] == pytest.approx(rate)
    if precision == "fp16":
        assert after["scaler"]["scale"] == before["scaler"]["scale"] / 2
    for checkpoint in (before, after):
        for key in ("schedule", "scaler"):
            del checkpoint[key]
        del checkpoint["optimizer"]["param_groups"][0]["lr"]
    assert_same_bits(after, before)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        step(state, steps_before + 1)  # and training goes on
    assert all(tensor.isfinite().all() for tensor in state.to_checkpoint()["model"].values())


def test_a_bad_step_hides_no_other_warning() -> None:
    state = make_state(recipe())
    forward_backward(state, images_of(0))

    def complain() -> None:
        warnings.warn("something else", UserWarning, stacklevel=1)

    state.schedule.step = complain
    with pytest.warns(UserWarning, match="something else"):
        state.skip()


def test_the_gradient_is_bounded_after_it_was_scaled_back() -> None:
    norms = {}
    for precision in ("fp32", "fp16"):
        state = make_state(recipe(precision=precision, clip_norm=0.25))
        norms[precision] = forward_backward(state, images_of(0))
        bounded = torch.cat([p.grad.flatten() for p in state.parameters]).norm().item()
        assert norms[precision] > 1
        assert bounded == pytest.approx(0.25, rel=1e-4)
    assert norms["fp16"] == pytest.approx(norms["fp32"], rel=1e-5)


def test_the_papers_recipe_gives_the_papers_learning_rates() -> None:
    arguments = parse_arguments(None, ["--data", "coco"])
    rate = [arguments.learning_rate * learning_rate_factor(arguments, i) for i in range(270_000)]
    assert rate[0] == pytest.approx(2.5e-7)
    assert rate[500] == pytest.approx((2.5e-7 + 2.5e-5) / 2)
    assert rate[999] == pytest.approx(2.5e-7 + 0.999 * (2.5e-5 - 2.5e-7))
    assert rate[1000] == rate[209_999] == 2.5e-5
    assert rate[210_000] == rate[249_999] == pytest.approx(2.5e-6)
    assert rate[250_000] == rate[269_999] == pytest.approx(2.5e-7)
    assert rate[:1001] == sorted(rate[:1001])
    assert rate[1000:] == sorted(rate[1000:], reverse=True)


def test_warm_up_is_linear_from_a_hundredth() -> None:
    arguments = recipe(schedule="step", steps=[], warmup=10)
    factors = [learning_rate_factor(arguments, i) for i in range(13)]
    assert factors == pytest.approx([0.01 + 0.099 * i for i in range(10)] + [1, 1, 1])
    assert learning_rate_factor(recipe(schedule="step", warmup=0), 0) == 1


def test_the_cosine_ends_at_nothing_and_is_slowed_by_warm_up() -> None:
    arguments = recipe(iterations=100, warmup=0)
    assert learning_rate_factor(arguments, 0) == 1
    assert learning_rate_factor(arguments, 50) == pytest.approx(0.5)
    assert learning_rate_factor(arguments, 25) == pytest.approx((1 + 0.5**0.5) / 2)
    assert learning_rate_factor(arguments, 100) == pytest.approx(0)
    slowed = recipe(iterations=100, warmup=20)
    assert learning_rate_factor(slowed, 10) == pytest.approx(0.505 * learning_rate_factor(arguments, 10))
    assert learning_rate_factor(slowed, 20) == learning_rate_factor(arguments, 20)


@pytest.mark.parametrize("schedule", ["step", "cosine"])
def test_the_optimiser_sees_the_schedule(schedule: str) -> None:
    arguments = recipe(schedule=schedule, steps=[6, 8], iterations=10, warmup=3)
    state = make_state(arguments)
    for iteration in range(10):
        rate = state.optimizer.param_groups[0]["lr"]
        assert rate == pytest.approx(0.05 * learning_rate_factor(arguments, iteration))
        step(state, iteration)


def test_the_trunk_can_learn_more_slowly_than_the_rest() -> None:
    model = build_small_model()
    slow = parameter_groups(model, 0.05, 0.1)
    trunk = {id(value) for value in model.backbone.trunk.parameters()}
    assert [group["lr"] for group in slow] == pytest.approx([0.05, 0.005])
    assert {id(value) for value in slow[1]["params"]} == trunk
    assert len(slow[0]["params"]) + len(trunk) == len(list(model.parameters()))
    assert len(parameter_groups(model, 0.05, 1.0)) == 1
