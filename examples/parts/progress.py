"""How far a loop has come: on a terminal, and nowhere else."""

from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

Item = TypeVar("Item")


def progress(items: Iterable[Item], rank: int = 0, *, desc: str | None = None, unit: str) -> Iterator[Item]:
    """The items, with a bar on the terminal of the first process; a file would fill with bars."""
    return iter(tqdm(items, desc=desc, unit=unit, leave=False, disable=True if rank else None))
