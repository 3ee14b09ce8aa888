"""A progress bar, on a terminal only."""

from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

Item = TypeVar("Item")


def progress(items: Iterable[Item], rank: int = 0, *, desc: str | None = None, unit: str) -> Iterator[Item]:
    """The items, with a progress bar if this is the first process and its output is a terminal."""
    return iter(tqdm(items, desc=desc, unit=unit, leave=False, disable=True if rank else None))
