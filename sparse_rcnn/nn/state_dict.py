"""Comparing the entries of a state dict with those that a model expects."""

from collections.abc import Mapping

import torch
from torch import Tensor

__all__ = ["require_finite", "require_same_keys"]


def require_same_keys(expected: Mapping[str, Tensor], given: Mapping[str, Tensor], what: str) -> None:
    """Refuses a state dict that lacks an entry, has one too many, or one of another shape.

    Args:
        expected: entries as they should be; only their shapes are looked at.
        given: entries to check.
        what: the beginning of the message.

    Raises:
        ValueError: naming the entries, the first ten if there are more.
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
    """Refuses values with which a model finds nothing, or anything, without an error.

    Args:
        state_dict: entries to check.

    Raises:
        ValueError: naming the first entry that is not dense, complex, not finite, or a negative variance.
    """
    for key, value in state_dict.items():
        if value.layout != torch.strided or value.is_quantized or value.is_complex():
            raise ValueError(f"entry {key!r} must be a dense tensor of real numbers, got {value.dtype}")
        if not value.is_floating_point():
            if not key.endswith("num_batches_tracked"):
                raise ValueError(f"entry {key!r} must be of floating point, got {value.dtype}")
        elif value.device.type != "meta":
            wrong = int((~value.isfinite()).sum())
            if wrong:
                raise ValueError(f"entry {key!r} has {wrong} of {value.numel()} values that are not finite")
            if key.endswith("running_var") and (value < 0).any():
                raise ValueError(f"entry {key!r} is a variance and has negative values")
