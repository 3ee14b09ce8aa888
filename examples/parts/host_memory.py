"""Whether memory that tensors leave on a CPU is kept for the next ones, or goes back to the system at once.

The C library does something in between. The large tensors go back, so that the system maps and clears each
page of the next one: in training, a GB in every step. The others stay, and leave holes in its heap. What
either of the two gains is in BENCHMARKS.md.
"""

import ctypes
import os
import platform

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_MMAP_MAX = -1, -3, -4  # glibc's malloc.h
RETURNED = 1 << 20  # bytes of a tensor that is worth a mapping of its own


def can_set_freed_memory() -> bool:
    """Whether this system and its environment leave it to a process.

    They do not without glibc, or where its allocator is set from outside: with `MALLOC_PERTURB_=0` in the
    environment, its default, everything stays as it is. (Not with `MALLOC_MMAP_MAX_`: whoever sets that
    fixes the size from which pieces are mapped, too, and pays for more page faults than by default.)
    """
    set_outside = any(name.startswith("MALLOC_") for name in os.environ)
    set_outside = set_outside or "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", "")
    return not set_outside and platform.libc_ver()[0] == "glibc"


def keep_freed_memory() -> bool:
    """Lets this process keep what it frees, for as long as it lives: faster.

    Only the main thread's tensors are kept. A GPU's memory is PyTorch's own affair.

    Returns:
        Whether it does: see `can_set_freed_memory`.
    """
    # No piece of memory of its own for a large tensor, and never shrink the heap.
    return can_set_freed_memory() and _set((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, -1))


def return_freed_memory() -> bool:
    """Lets this process return tensors that it frees at once: slower, but no holes in its memory.

    Returns:
        Whether it does: see `can_set_freed_memory`.
    """
    return can_set_freed_memory() and _set((M_MMAP_THRESHOLD, RETURNED), (M_TRIM_THRESHOLD, RETURNED))


def _set(*settings: tuple[int, int]) -> bool:
    mallopt = ctypes.CDLL(None).mallopt
    return all(mallopt(name, value) == 1 for name, value in settings)
