"""Image files of equal contents in different splits. Figures on such a validation set are too good."""

import hashlib
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

from sparse_rcnn.data.formats.detection_dataset import DetectionDataset

__all__ = ["HEAD", "same_contents"]

HEAD = 1 << 14  # bytes by which files are compared first


def same_contents(
    splits: Mapping[str, DetectionDataset],
) -> dict[tuple[str, str], list[tuple[str, str]]]:
    """Image files of equal contents in different splits, by pair of splits.

    Files are compared by length, then by their beginning, then as a whole; those that are not there are none.

    Args:
        splits: Data sets by the name of the split.
    """
    owners = [(name, path) for name, dataset in splits.items() for path in dataset.image_paths]
    for key_of in (_length, _beginning, _digest):
        with ThreadPoolExecutor(8) as threads:
            keys = list(threads.map(key_of, (path for _, path in owners), chunksize=64))
        groups: dict[object, list[tuple[str, str]]] = {}
        for key, owner in zip(keys, owners, strict=True):
            if key is not None:
                groups.setdefault(key, []).append(owner)
        groups = {key: group for key, group in groups.items() if len({name for name, _ in group}) > 1}
        owners = [owner for group in groups.values() for owner in group]
    found: dict[tuple[str, str], list[tuple[str, str]]] = {}
    names = list(splits)
    for group in groups.values():
        first = dict(reversed(group))
        for position, one in enumerate(names):
            for other in names[position + 1 :]:
                if one in first:
                    pairs = [(first[one], path) for name, path in group if name == other]
                    if pairs:
                        found.setdefault((one, other), []).extend(pairs)
    return found


def _length(path: str) -> int | None:
    try:
        return os.stat(path).st_size
    except (OSError, ValueError):
        return None


def _beginning(path: str) -> bytes | None:
    return _hash(path, HEAD)


def _digest(path: str) -> bytes | None:
    return _hash(path, -1)


def _hash(path: str, length: int) -> bytes | None:
    try:
        with open(path, "rb") as stream:
            return hashlib.blake2b(stream.read(length), digest_size=16).digest()
    except (OSError, ValueError):
        return None
