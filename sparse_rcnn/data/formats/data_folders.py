"""The files below the folder of a data set. Results that commands write there are no part of it."""

import os
from collections.abc import Iterator
from pathlib import Path

__all__ = ["DEEPEST", "PICTURES", "RESULTS", "above", "files_below", "is_of_results", "walk"]

DEEPEST = 8  # folders below the one that is given; a link may lead back
# Files of a run, and of detect.py. A report is report.html with photos/ beside it.
RESULTS = {"lock", "metrics.jsonl", "augmentation.png", "detections.json"}
PICTURES = {"dataset.png", "stages.png"}  # of commands that were started in the folder


def is_of_results(folder: Path) -> bool:
    """Whether a folder holds results, or nothing but folders of results, as runs/ does."""
    try:
        _, subfolders, files = next(os.walk(folder))
    except StopIteration:  # it cannot be read
        return False
    return _are_results(files, subfolders) or (
        not files and bool(subfolders) and all(is_of_results(folder / name) for name in subfolders)
    )


def walk(directory: str | Path) -> Iterator[tuple[str, list[str]]]:
    """The folders below a folder, and itself: the relative path with a slash at its end, and the file names.

    Hidden folders, folders of results and all below them are left out, and at the top the pictures that
    commands write there. The folder itself may be one of results.
    """
    for folder, subfolders, files in os.walk(directory, followlinks=True):
        relative = os.path.relpath(folder, directory)
        if relative == ".":
            files = [name for name in files if name not in PICTURES]
        elif _are_results(files, subfolders):
            subfolders.clear()
            continue
        subfolders[:] = sorted(name for name in subfolders if not name.startswith((".", "__MACOSX")))
        prefix = "" if relative == "." else relative.replace(os.sep, "/") + "/"
        yield prefix, files
        if prefix.count("/") >= DEEPEST:
            subfolders.clear()


def files_below(directory: Path, suffix: str | tuple[str, ...]) -> list[str]:
    """All files of a suffix in a folder and its subfolders, as sorted relative paths with slashes."""
    return sorted(
        prefix + name
        for prefix, files in walk(directory)
        for name in files
        if name.lower().endswith(suffix) and name[0] != "."
    )


def above(path: Path) -> Path:
    """The folder above a file or folder. `Path(".").parent` is no other folder."""
    return path / ".." if path.name in ("", "..") else path.parent


def _are_results(files: list[str], subfolders: list[str]) -> bool:
    """Whether a folder is that of a run, of detections or of a report. A subfolder may be called lock."""
    return not RESULTS.isdisjoint(files) or ("report.html" in files and "photos" in subfolders)
