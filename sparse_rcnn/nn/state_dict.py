"""Checks the entries of a state dict against those that a model expects."""

from collections.abc import Mapping

import torch
from torch import Tensor

__all__ = ["require_finite", "require_same_keys"]


def require_same_keys(expected: Mapping[str, Tensor], given: Mapping[str, Tensor], what: str) -> None:
    """Checks that a state dict has exactly the expected entries, each of the expected shape.

    Args:
        expected: The expected entries. Only their shapes are used.
        given: The entries to check.
        what: The beginning of the message.

    Raises:
        ValueError: If an entry is missing, surplus or of another shape. The message names the first ten.
    """
    problems = [f"missing key {key!r}" for key in expected if key not in given]
    problems += [f"surplus key {key!r}" for key in given if key not in expected]
    problems += [
        f"misshapen key {key!r}: {tuple(given[key].shape)}, expected {tuple(value.shape)}"
        for key, value in expected.items()
        if key in given and given[key].shape != value.shape
    ]
    if problems:
        more = f" and {len(problems) - 10} more" if len(problems) > 10 else ""
        raise ValueError(f"{what}: {'; '.join(problems[:10])}{more}")


def require_finite(state_dict: Mapping[str, Tensor]) -> None:
    """Checks that a model can use the values. Otherwise it would give wrong detections without an error.

    Args:
        state_dict: The entries to check.

    Raises:
        ValueError: If an entry is not dense, complex, not finite, or a negative variance. The message names
            the first.
    """
    for key, value in state_dict.items():
        if value.layout != torch.strided or value.is_quantized or value.is_complex():
            raise ValueError(f"entry {key!r} must be a dense tensor of real numbers, got {value.dtype}")
        if not value.is_floating_point():
            if not key.endswith("num_batches_tracked"):
                raise ValueError(f"entry {key!r} must be floating point, got {value.dtype}")
        elif value.device.type != "meta":
            wrong = int((~value.isfinite()).sum())
            if wrong:
                raise ValueError(f"entry {key!r} has {wrong} of {value.numel()} values that are not finite")
            if key.endswith("running_var") and (value < 0).any():
                raise ValueError(f"entry {key!r} is a variance and has negative values")
