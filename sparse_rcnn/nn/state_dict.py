"""Comparing the entries of a state dict with those that a model expects."""

from collections.abc import Mapping

from torch import Tensor


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
