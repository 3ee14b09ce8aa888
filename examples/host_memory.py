"""Memory that tensors leave on a CPU is kept for the next ones: what train.py, evaluate.py and detect.py do.

The C library gives freed tensors back to the system, which then maps and clears each page of the next one.
Training does that with a GB in every step. What keeping them gains is in BENCHMARKS.md.
"""

import ctypes
import os
import platform

M_MMAP_MAX, M_TRIM_THRESHOLD = -4, -1  # glibc's malloc.h


def can_keep_freed_memory() -> bool:
    """Whether this system and its environment leave it to a process: see :func:`keep_freed_memory`."""
    set_outside = any(name.startswith("MALLOC_") for name in os.environ)
    set_outside = set_outside or "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", "")
    return not set_outside and platform.libc_ver()[0] == "glibc"


def keep_freed_memory() -> bool:
    """Lets this process keep what it frees, for as long as it lives.

    Nothing happens without glibc, or where its allocator is set from outside: with ``MALLOC_PERTURB_=0`` in
    the environment, its default, everything stays as it is. (Not with ``MALLOC_MMAP_MAX_``: whoever sets that
    fixes the size from which pieces are mapped, too, and pays for more page faults than by default.) Only
    the main thread's tensors are kept. A GPU's memory is PyTorch's own affair.

    Returns:
        Whether it does.
    """
    if not can_keep_freed_memory():
        return False
    mallopt = ctypes.CDLL(None).mallopt
    # No piece of memory of its own for a large tensor, and never shrink the heap.
    return mallopt(M_MMAP_MAX, 0) == 1 and mallopt(M_TRIM_THRESHOLD, -1) == 1
