"""Checks the entries of a checkpoint of train.py before a run uses them."""

import math
import random
from collections.abc import Callable, Mapping
from reprlib import repr as short
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR

from parts.training.training_state import parameter_groups
from sparse_rcnn.nn import Checkpoint, ModelConfig
from sparse_rcnn.nn.checkpoints.empty_model import empty_model
from sparse_rcnn.nn.state_dict import require_finite, require_same_keys

MOST = 2**53  # the limit of counts; exact in floating point
PLAIN = (bool, int, float, str, type(None))


def check_resumable(checkpoint: Checkpoint) -> None:
    """Raises ValueError if a run cannot be resumed from this checkpoint. The message names the entry."""
    content = checkpoint.content
    for name, (is_right, wanted) in FIELDS.items():
        if name not in content:
            if name in REQUIRED:
                raise ValueError(f"entry {name!r} is missing: a run cannot be resumed without it")
        elif not is_right(content[name]):
            raise ValueError(f"{name} must be {wanted}, got {short(content[name])}")
    check_optimizer(content["optimizer"], checkpoint.config)
    check_schedule(content["schedule"], len(content["optimizer"]["param_groups"]))
    check_scaler(content.get("scaler", {}), needed=content["arguments"].get("precision") == "fp16")
    if ("trained" in content) != ("num_averaged" in content):
        raise ValueError("of the entries 'trained' and 'num_averaged', one is missing")
    if content["arguments"].get("ema") and "trained" not in content:
        raise ValueError("entry 'trained' is missing: a run with --ema cannot be resumed without it")
    if "trained" in content:
        require_same_keys(content["model"], content["trained"], "'trained' does not fit 'model'")
        require_finite(content["trained"])
    for index, states in enumerate(content.get("random_states", [])):
        check_random_states(index, states)


def trainable_shapes(config: ModelConfig, num_groups: int) -> list[torch.Size]:
    """Shapes of the trained parameters in the optimiser's order. A second group is the trunk's."""
    groups = parameter_groups(empty_model(config), 1.0, 1.0 if num_groups == 1 else 0.1)
    return [parameter.shape for group in groups for parameter in group["params"]]


def check_optimizer(state: Any, config: ModelConfig) -> None:
    """Checks the optimiser's state. Moments of a wrong shape make fused AdamW write to wrong memory."""
    groups, moments = state.get("param_groups"), state.get("state")
    if not isinstance(moments, Mapping) or not isinstance(groups, list) or not groups:
        raise ValueError("optimizer must have 'state' and 'param_groups'")
    numbers: list[Any] = []
    for index, group in enumerate(groups):
        if not isinstance(group, Mapping) or not isinstance(group.get("params"), list):
            raise ValueError(f"optimizer: param_groups[{index}] must be a dict with a list of 'params'")
        _check_group(index, group)
        numbers += group["params"]
    shapes = trainable_shapes(config, len(groups))
    if not all(type(number) is int for number in numbers) or sorted(numbers) != list(range(len(shapes))):
        raise ValueError(f"optimizer: its parameters must be 0 to {len(shapes) - 1}, each once")
    if any(type(number) is not int or not 0 <= number < len(shapes) for number in moments):
        raise ValueError(f"optimizer: state must be of the parameters 0 to {len(shapes) - 1}")
    for number, entry in moments.items():
        what = f"optimizer: state of parameter {number}"
        if not isinstance(entry, Mapping) or set(entry) != {"step", "exp_avg", "exp_avg_sq"}:
            raise ValueError(f"{what} must have 'step', 'exp_avg' and 'exp_avg_sq'")
        step = entry["step"].item() if _is_tensor(entry["step"], torch.Size([])) else entry["step"]
        if not is_number(step) or step < 0:
            raise ValueError(f"{what}: step must be a number of at least 0, got {short(step)}")
        for name in ("exp_avg", "exp_avg_sq"):
            if not _is_tensor(entry[name], shapes[numbers.index(number)]):
                found = tuple(entry[name].shape) if isinstance(entry[name], Tensor) else short(entry[name])
                expected = tuple(shapes[numbers.index(number)])
                raise ValueError(f"{what}: {name} must be finite and of shape {expected}, got {found}")
        if (entry["exp_avg_sq"] < 0).any():
            raise ValueError(f"{what}: exp_avg_sq is a mean of squares and has negative values")


def _check_group(index: int, group: Mapping[Any, Any]) -> None:
    for name in ("lr", "eps", "weight_decay"):
        if not is_number(group.get(name)) or group[name] < 0:
            raise ValueError(f"optimizer: param_groups[{index}]: {name} must be a number of at least 0")
    betas = group.get("betas")
    if not isinstance(betas, (tuple, list)) or len(betas) != 2 or not all(map(is_number, betas)):
        raise ValueError(f"optimizer: param_groups[{index}]: betas must be two numbers")
    if not all(0 <= beta < 1 for beta in betas):
        raise ValueError(f"optimizer: param_groups[{index}]: betas must be in 0..1, got {short(betas)}")
    for name in ("amsgrad", "maximize", "capturable", "differentiable", "foreach"):
        if group.get(name) not in (None, False):
            raise ValueError(f"optimizer: param_groups[{index}]: {name} must be off")
    for name in ("fused", "decoupled_weight_decay"):
        if group.get(name) not in (None, True, False):
            raise ValueError(f"optimizer: param_groups[{index}]: {name} must be on or off")


def check_schedule(state: Any, num_groups: int) -> None:
    """Checks the schedule's state: only plain numbers, since a schedule accepts any entry."""
    if not is_count(state.get("last_epoch")):
        raise ValueError(f"schedule: last_epoch must be a whole number, got {short(state.get('last_epoch'))}")
    rates = state.get("base_lrs")
    if not isinstance(rates, list) or len(rates) != num_groups or not all(map(is_number, rates)):
        raise ValueError(f"schedule: base_lrs must be {num_groups} numbers, got {short(rates)}")
    if state.get("lr_lambdas") != [None] * num_groups:
        raise ValueError(f"schedule: lr_lambdas must be {num_groups} times None")
    for name, value in state.items():
        parts = value if isinstance(value, list) else [value]
        plain = all(part is None or is_number(part) or isinstance(part, bool) for part in parts)
        known = isinstance(name, str) and name != "optimizer" and not callable(getattr(LambdaLR, name, None))
        if not known or not plain:
            raise ValueError(f"schedule: entry {short(name)} does not belong to a schedule")


def check_scaler(state: Any, needed: bool) -> None:
    """Checks the scale of the loss in fp16. It is empty in other precisions."""
    names = {"scale", "growth_factor", "backoff_factor", "growth_interval", "_growth_tracker"}
    if (needed or state) and set(state) != names:
        raise ValueError(f"scaler must have {', '.join(sorted(names))}")
    for name, value in state.items():
        if not is_number(value) or value < 0 or (value == 0 and name != "_growth_tracker"):
            raise ValueError(f"scaler: {name} must be a positive number, got {short(value)}")


def check_random_states(index: int, states: Any) -> None:
    """Checks the states by setting them on new generators."""
    try:
        version, internal, gauss = states["python"]
        random.Random().setstate((version, tuple(internal), gauss))
        name, key, position, *rest = states["numpy"]
        if not 0 <= position <= 624:  # NumPy does not check this
            raise ValueError(f"position {position}")
        np.random.RandomState().set_state((name, np.array(key, dtype=np.uint32), position, *rest))
        torch.Generator().set_state(states["torch"])
        if not isinstance(states.get("cuda", states["torch"]), Tensor):
            raise ValueError("the state of a GPU must be a tensor")
    except Exception as error:  # generators raise many kinds of errors
        raise ValueError(f"random_states[{index}] is no state of the generators: {short(error)}") from error


def is_number(value: Any) -> bool:
    """Whether it is a finite number, not a bool."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def is_count(value: Any) -> bool:
    """Whether it is a whole number from 0 to MOST."""
    return type(value) is int and 0 <= value <= MOST


def is_options(value: Any) -> bool:
    """Whether it is what `settings` gives: names with plain values, or lists of them."""
    return isinstance(value, Mapping) and all(
        isinstance(name, str)
        and all(isinstance(part, PLAIN) for part in (option if isinstance(option, list) else [option]))
        for name, option in value.items()
    )


def _is_tensor(value: Any, shape: torch.Size) -> bool:
    return (
        isinstance(value, Tensor)
        and value.shape == shape
        and value.is_floating_point()
        and bool(value.isfinite().all())
    )


def _is_names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


FIELDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "optimizer": (lambda value: isinstance(value, Mapping), "a dict"),
    "schedule": (lambda value: isinstance(value, Mapping), "a dict"),
    "scaler": (lambda value: isinstance(value, Mapping), "a dict"),
    "trained": (
        lambda value: isinstance(value, Mapping) and all(isinstance(part, Tensor) for part in value.values()),
        "a dict of tensors",
    ),
    "class_names": (_is_names, "a list of strings"),
    "arguments": (is_options, "a dict of options"),
    "iteration": (is_count, "a whole number of at least 0"),
    "num_averaged": (is_count, "a whole number of at least 0"),
    "num_images": (is_count, "a whole number of at least 0"),
    "data": (is_options, "a dict of digests"),
    "skipped": (is_count, "a whole number of at least 0"),
    "skipped_in_a_row": (is_count, "a whole number of at least 0"),
    "seconds": (lambda value: is_number(value) and value >= 0, "a number of at least 0"),
    "spent": (lambda value: is_number(value) and value >= 0, "a number of at least 0"),
    "unreadable": (_is_names, "a list of strings"),
    "random_states": (lambda value: isinstance(value, list), "a list"),
}
REQUIRED = ("optimizer", "schedule", "arguments", "iteration", "class_names")
