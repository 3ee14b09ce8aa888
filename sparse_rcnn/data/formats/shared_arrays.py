"""Arrays that worker processes share, however they are started.

A process that forks shares the memory of its parent. A process that is spawned gets a copy of every array: 2
GB for a data set of 25 million boxes. These arrays move into shared memory first, once.
"""

import ctypes
from collections.abc import Sequence
from multiprocessing.context import get_spawning_popen
from multiprocessing.heap import BufferWrapper
from multiprocessing.sharedctypes import RawArray
from typing import Any

import numpy as np

__all__ = ["SharedArrays"]


class SharedArrays:
    """Arrays that spawned processes map instead of copying.

    Args:
        arrays: Arrays of numbers.

    Attributes:
        arrays: The same. Nobody writes into them: other processes would see it.
    """

    def __init__(self, *arrays: np.ndarray) -> None:
        self.arrays: Sequence[np.ndarray] = arrays
        self._memory: list[BufferWrapper] = []

    def __reduce__(self) -> tuple[Any, ...]:
        if get_spawning_popen() is None:  # pickled, but not for a process
            return SharedArrays, tuple(self.arrays)
        kinds = [(array.dtype.str, array.shape) for array in self.arrays]
        if not self._memory:
            raws = [RawArray(ctypes.c_byte, max(1, array.nbytes)) for array in self.arrays]
            # The pickler at work does not know the new type of a RawArray. It knows the memory.
            self._memory = [raw._wrapper for raw in raws]  # type: ignore[attr-defined]
            moved = [_view(raw, *kind) for raw, kind in zip(raws, kinds, strict=True)]
            for view, array in zip(moved, self.arrays, strict=True):
                view[...] = array
            self.arrays = moved
        return _attached, (self._memory, kinds)


def _attached(memory: list[BufferWrapper], kinds: list[tuple[str, tuple[int, ...]]]) -> SharedArrays:
    buffers = [part.create_memoryview() for part in memory]
    found = SharedArrays(*(_view(buffer, *kind) for buffer, kind in zip(buffers, kinds, strict=True)))
    found._memory = memory
    return found


def _view(buffer: Any, dtype: str, shape: tuple[int, ...]) -> np.ndarray:
    return np.frombuffer(buffer, dtype=dtype, count=int(np.prod(shape))).reshape(shape)
