"""The lock of the directory of a run: one run at a time uses it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


@contextmanager
def lock(output: Path) -> Iterator[None]:
    """Locks the directory of a run, so that no other run uses it.

    Raises:
        ValueError: If another process has locked it.
    """
    with (output / "lock").open("w") as file:
        try:
            _lock_file(file.fileno())  # the lock ends with this process
        except (BlockingIOError, PermissionError) as error:  # POSIX says the one, Windows the other
            raise ValueError(f"{output}: another process is training in it") from error
        yield


def _lock_file(descriptor: int) -> None:
    if fcntl is not None:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    else:
        import msvcrt

        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined, unused-ignore]
