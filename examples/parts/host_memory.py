"""What happens with freed memory of tensors on a CPU: the process keeps it, or the system gets it back.

By default, the C library does both. It returns large tensors, and the system must then map and clear the
pages of the next one: about a GB in every training step. It keeps small ones, and its heap gets holes.
BENCHMARKS.md has the gains of both settings.
"""

import ctypes
import os
import platform

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_MMAP_MAX = -1, -3, -4  # glibc's malloc.h
RETURNED = 1 << 20  # tensors of more bytes get a mapping of their own


def can_set_freed_memory() -> bool:
    """Whether this process can change the setting.

    It needs glibc, and the environment must not set glibc's allocator. To keep the default, set
    `MALLOC_PERTURB_=0` in the environment: this is its default value, and nothing changes. Do not use
    `MALLOC_MMAP_MAX_` for it: it also fixes the size from which memory is mapped, which is slower.
    """
    set_outside = any(name.startswith("MALLOC_") for name in os.environ)
    set_outside = set_outside or "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", "")
    return not set_outside and platform.libc_ver()[0] == "glibc"


def keep_freed_memory() -> bool:
    """Lets this process keep freed memory until it ends. This is faster.

    It holds for tensors of the main thread. PyTorch itself manages the memory of a GPU.

    Returns:
        Whether the setting was made: see `can_set_freed_memory`.
    """
    # Large tensors get no mapping of their own, and the heap never shrinks.
    return can_set_freed_memory() and _set((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, -1))


def return_freed_memory() -> bool:
    """Lets this process return freed tensors at once. This is slower, but leaves no holes in its memory.

    Returns:
        Whether the setting was made: see `can_set_freed_memory`.
    """
    return can_set_freed_memory() and _set((M_MMAP_THRESHOLD, RETURNED), (M_TRIM_THRESHOLD, RETURNED))


def _set(*settings: tuple[int, int]) -> bool:
    mallopt = ctypes.CDLL(None).mallopt
    return all(mallopt(name, value) == 1 for name, value in settings)
