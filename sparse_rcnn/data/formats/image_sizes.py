"""The sizes of image files by their headers: read in parallel, and remembered until a file changes."""

import hashlib
import os
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from sparse_rcnn.data.formats.annotated_images import AnnotatedImages, ReadOptions
from sparse_rcnn.data.formats.counted import counted
from sparse_rcnn.data.image_check import MOST_NAMED, check_image_files
from sparse_rcnn.data.image_file import (
    ExifOrientation,
    UnreadableImageError,
    read_image_size,
)

__all__ = [
    "DEFAULTS",
    "THREADS",
    "VERSION",
    "cache_directory",
    "check_headers",
    "keep_readable",
    "read_image_sizes",
    "sizes_or_headers",
]

THREADS = 8
DEFAULTS = ReadOptions()
VERSION = 1  # of what is remembered


def cache_directory() -> Path:
    """Where sizes are remembered: `SPARSE_RCNN_CACHE`, or `sparse_rcnn` in the user's cache folder."""
    default = os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "sparse_rcnn")
    return Path(os.environ.get("SPARSE_RCNN_CACHE") or default)


def read_image_sizes(
    paths: Sequence[str], options: ReadOptions = DEFAULTS
) -> tuple[np.ndarray, dict[int, str]]:
    """Reads the upright sizes of image files from their headers.

    A file whose length and times of change are those of the last time is not opened again.

    Args:
        paths: Image files.
        options: Of these, `exif_orientation` and `max_pixels`.

    Returns:
        [I, 2] int64, (height, width) in pixels, 0 where a file cannot be read; and what is wrong with those,
        by index.
    """
    stats = _stats(paths)
    sizes = np.zeros((len(paths), 2), dtype=np.int64)
    file = _cache_file(paths, options)
    known = _remembered(file, stats)
    if known is not None:
        sizes[:] = known
    problems: dict[int, str] = {}

    def read(index: int) -> None:
        try:
            sizes[index] = read_image_size(
                paths[index], exif_orientation=options.exif_orientation, max_pixels=options.max_pixels
            )
        except UnreadableImageError as error:
            problems[index] = str(error)

    unknown = np.flatnonzero(sizes[:, 0] == 0).tolist()
    if unknown:
        with ThreadPoolExecutor(THREADS) as threads:
            list(threads.map(read, unknown, chunksize=64))
        _remember(file, stats, sizes)
    return sizes, dict(sorted(problems.items()))


def sizes_or_headers(
    sizes: Sequence[tuple[int, int] | None], images: Sequence[str], options: ReadOptions
) -> tuple[np.ndarray, dict[int, str]]:
    """The sizes in annotation files, or in headers where a file says none; as `read_image_sizes`."""
    unsaid = [index for index, size in enumerate(sizes) if size is None]
    found = np.array([size or (0, 0) for size in sizes], dtype=np.int64).reshape(-1, 2)
    if not unsaid:
        return found, {}
    found[unsaid], problems = read_image_sizes([images[index] for index in unsaid], options)
    return found, {unsaid[index]: problem for index, problem in problems.items()}


def check_headers(
    paths: Sequence[str],
    sizes: Sequence[tuple[int, int]],
    *,
    exif_orientation: ExifOrientation,
    max_pixels: int,
) -> None:
    """`check_image_files` without files that were right before and have not changed.

    Args:
        paths: Image files.
        sizes: (height, width) of each as annotated.
        exif_orientation: As of `read_image`.
        max_pixels: As of `read_image`.

    Raises:
        UnreadableImageError: As `check_image_files`.
    """
    options = DEFAULTS._replace(exif_orientation=exif_orientation, max_pixels=max_pixels)
    annotated = np.array(list(sizes), dtype=np.int64)
    digest = hashlib.blake2b(annotated.tobytes(), digest_size=8).hexdigest()
    file = _cache_file(paths, options).with_suffix(f".{digest}.npz")
    stats = _stats(paths)
    known = _remembered(file, stats)
    unknown = range(len(paths)) if known is None else np.flatnonzero(known[:, 0] == 0).tolist()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        check_image_files(
            [paths[i] for i in unknown],
            [sizes[i] for i in unknown],
            exif_orientation=exif_orientation,
            max_pixels=max_pixels,
        )
    for warning in said:
        warnings.warn(warning.message, stacklevel=3)
    if unknown and not said:  # what caused a warning is said again the next time
        _remember(file, stats, np.ones((len(paths), 2), dtype=np.int64))


def _stats(paths: Sequence[str]) -> np.ndarray:
    """[I, 3] int64: length, time of the last change, and of the last change of the entry; -1: not there."""

    def look(path: str) -> tuple[int, int, int]:
        try:
            found = os.stat(path)
        except (OSError, ValueError):
            return -1, -1, -1
        return found.st_size, found.st_mtime_ns, found.st_ctime_ns

    return np.array([look(path) for path in paths], dtype=np.int64).reshape(-1, 3)


def _cache_file(paths: Sequence[str], options: ReadOptions) -> Path:
    digest = hashlib.blake2b(f"{options.exif_orientation} {options.max_pixels}\0".encode(), digest_size=16)
    for path in paths:
        digest.update(os.path.abspath(path).encode("utf-8", "surrogatepass") + b"\0")
    return cache_directory() / f"sizes-{VERSION}-{digest.hexdigest()}.npz"


def _remembered(file: Path, stats: np.ndarray) -> np.ndarray | None:
    """The remembered sizes. A file that has changed has 0."""
    try:
        with open(file, "rb") as stream, np.load(stream, allow_pickle=False) as content:
            before, sizes = content["stats"], content["sizes"]
    except Exception:  # absent or broken: the headers are read again
        return None
    if before.shape != stats.shape or sizes.shape != (len(stats), 2) or sizes.dtype != np.int64:
        return None
    unchanged = (before == stats).all(axis=1) & (stats[:, 0] >= 0) & np.greater(sizes, 0).all(axis=1)
    return np.where(unchanged[:, None], sizes, 0)


def _remember(file: Path, stats: np.ndarray, sizes: np.ndarray) -> None:
    """Writes a new file and renames it: nobody reads half of it. Without room or rights, it writes none."""
    aside = file.with_name(f".{file.stem}.{os.getpid()}.npz")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        np.savez(aside, stats=stats, sizes=sizes)
        os.replace(aside, file)
    except OSError:
        aside.unlink(missing_ok=True) if aside.parent.is_dir() else None


def keep_readable(
    content: AnnotatedImages, problems: dict[int, str], options: ReadOptions
) -> AnnotatedImages:
    """Images of formats that do not say their size, without those whose header cannot be read.

    Args:
        content: All images.
        problems: What is wrong with which.
        options: `leave_out_broken` or `allow_missing` leave them out, with a remark.

    Raises:
        UnreadableImageError: If there are any, and neither option is given.
    """
    if not problems:
        return content
    named = "; ".join(list(problems.values())[:MOST_NAMED])
    if not (options.leave_out_broken or options.allow_missing):
        how = "leave_out_broken=True, --leave-out-broken, leaves them out"
        raise UnreadableImageError(f"{len(problems)} unusable image(s): {named} ({how})")
    kept = np.array([index for index in range(len(content.paths)) if index not in problems], dtype=np.int64)
    remark = f"{counted(len(problems), 'image', 'images')} that cannot be read: left out: {named}"
    return content.with_images(kept)._replace(remarks=[*content.remarks, remark])
