"""Lists without an object for each entry, so that worker processes share them.

Reading a Python object changes its reference count, and with it the memory page that it lies on: a list of
2 million names is copied into every worker. Arrays are not.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from sparse_rcnn.data.formats.shared_arrays import SharedArrays

__all__ = ["FlatRows", "FlatStrings"]


class FlatRows(Sequence[Any]):
    """An array that reads as a list: integers for one axis, tuples of integers for two.

    Args:
        rows: Array [I] or [I, n], or what makes one.
        dtype: Of the array.

    Example:
        >>> FlatRows([(480, 640), (600, 800)])[1]
        (600, 800)
    """

    def __init__(self, rows: Any, dtype: Any = np.int64) -> None:
        self._shared = SharedArrays(np.asarray(rows, dtype=dtype))

    @property
    def array(self) -> np.ndarray:
        """All rows."""
        return self._shared.arrays[0]

    def __len__(self) -> int:
        return len(self.array)

    def __getitem__(self, index: Any) -> Any:
        found = self.array[index].tolist()
        if isinstance(index, slice):
            return [tuple(row) for row in found] if self.array.ndim == 2 else found
        return tuple(found) if self.array.ndim == 2 else found

    def __iter__(self) -> Iterator[Any]:
        for start in range(0, len(self), 4096):
            yield from self[start : start + 4096]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return repr(list(self))


class FlatStrings(Sequence[str]):
    """A list of texts as one array of bytes and one of offsets.

    Args:
        texts: The texts, in order.

    Example:
        >>> FlatStrings(["a.jpg", "b.jpg"])[1]
        'b.jpg'
    """

    def __init__(self, texts: Iterable[str]) -> None:
        # "surrogatepass" keeps names of files that are not UTF-8, and halves of pairs in JSON.
        parts = [text.encode("utf-8", "surrogatepass") for text in texts]
        ends = np.cumsum([0, *map(len, parts)], dtype=np.int64)
        self._shared = SharedArrays(ends, np.frombuffer(b"".join(parts), dtype=np.uint8))

    def __len__(self) -> int:
        return len(self._shared.arrays[0]) - 1

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        number = range(len(self))[index]
        ends, letters = self._shared.arrays
        first, last = ends[number : number + 2].tolist()
        return letters[first:last].tobytes().decode("utf-8", "surrogatepass")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return repr(list(self))
