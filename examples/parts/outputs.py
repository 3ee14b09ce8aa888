"""Where the results of a command go: never over a file that it reads; over an older result with a remark."""

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from parts.command_line import printable


def check_outputs(
    files: Mapping[str, str | Path | None],
    inputs: Iterable[str | Path | None] = (),
    folders: Mapping[str, str | Path | None] | None = None,
) -> None:
    """Says which results replace older files. Call it before the work, so that a user can still stop.

    Args:
        files: Files that are written, by the option that names them; None for what is not written.
        inputs: Files that the command reads.
        folders: Folders that are written into, by their options.

    Raises:
        ValueError: If an output is an input, a file is a folder, or a folder is a file.
    """
    read, folders = [Path(path) for path in inputs if path is not None], folders or {}
    for option, name in {**files, **folders}.items():
        path = Path(name or "")
        if name is None or not path.exists():
            continue
        if path.is_dir() != (option in folders):
            words = "is a folder; give a file" if path.is_dir() else "is a file; give a folder"
            raise ValueError(f"{option} {path}: {words}")
        if path.is_dir():
            if any(path.iterdir()):
                remark(f"{path} has files: results replace those with the same name ({option})")
        elif any(is_same_file(path, one) for one in read):
            raise ValueError(f"{option} {path}: is a file that is read; give another name")
        else:
            remark(f"{path} is there already, and will be replaced ({option})")


def is_same_file(path: Path, other: Path) -> bool:
    """Whether both are there and are one file, perhaps by a symbolic or hard link."""
    try:
        return path.samefile(other)
    except OSError:  # other is a URL, a split, or missing: what reads it says so
        return False


def remark(text: str) -> None:
    """Prints it beside the output, which may be for a program."""
    print(printable(f"remark: {text}"), file=sys.stderr)
