"""Holds images out for validation if a data set has no split. Seed and names decide which."""

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from sparse_rcnn.data.formats.annotated_images import AnnotatedImages

__all__ = ["choose_held_out", "read_split", "split_names", "write_split"]


def choose_held_out(
    names: Sequence[str], image_indices: np.ndarray, labels: np.ndarray, share: float, seed: int = 0
) -> np.ndarray:
    """Chooses images. Each class with at least two images is in both parts.

    Images come in an order that their names and the seed decide, whatever the order of the files. From the
    rarest class on, images are taken until validation has its share of the images of the class; then more
    are taken until it has its share of all. The last image of a class stays for training.

    Args:
        names: [I] of the images, relative to the data set.
        image_indices: [A] image of each box.
        labels: [A] class of each box.
        share: Of the images to hold out, above 0 and below 1; at least one, and not all.
        seed: Of the order.

    Returns:
        Ascending indices of the images that are held out.

    Raises:
        ValueError: If the share is out of range, or there is one image only.
    """
    if not 0 < share < 1:
        raise ValueError(f"the share of images to hold out must be above 0 and below 1, got {share}")
    count = len(names)
    if count < 2:
        raise ValueError("a data set of one image cannot be split: add images")
    keys = [hashlib.blake2b(f"{seed}:{name}".encode("utf-8", "surrogatepass")).digest()[:8] for name in names]
    order = np.argsort(np.array(keys, dtype="S8"), kind="stable")
    rank = np.empty(count, dtype=np.int64)
    rank[order] = np.arange(count)

    # One number for (class, image): sorting rows of two takes minutes for millions of boxes.
    ordered = np.sort(labels * np.int64(count) + rank[image_indices])
    classes, ranks_of = np.divmod(ordered[np.diff(ordered, prepend=-1) > 0], count)  # [P], each pair once
    first = np.flatnonzero(np.diff(classes, prepend=-1))
    groups = np.split(ranks_of, first[1:]) if len(classes) else []
    by_class = dict(zip(classes[first].tolist(), groups, strict=True))
    by_image = np.argsort(ranks_of, kind="stable")
    starts = np.searchsorted(ranks_of[by_image], np.arange(count + 1))
    left = {label: len(ranks) for label, ranks in by_class.items()}  # images that stay for training
    chosen: set[int] = set()

    def take(position: int) -> None:
        shown = classes[by_image[starts[position] : starts[position + 1]]].tolist()
        if position not in chosen and all(left[label] > 1 for label in shown):
            chosen.add(position)
            for label in shown:
                left[label] -= 1

    for label, ranks in sorted(by_class.items(), key=lambda item: (len(item[1]), item[0])):
        target = max(1, round(share * len(ranks)))
        for position in ranks.tolist():
            if len(ranks) - left[label] >= target:
                break
            take(position)
    wanted = min(max(1, round(share * count)), count - 1)
    for position in range(count):
        if len(chosen) >= wanted:
            break
        take(position)
    if not chosen:
        chosen.add(0)  # every image is the only one of its class
    return np.sort(order[sorted(chosen)])


def split_names(content: AnnotatedImages, root: Path) -> list[str]:
    """The names of the images, relative to the data set, with slashes."""
    return _relative(content.paths, root)


def _relative(paths: Iterable[str], root: Path) -> list[str]:
    """`os.path.relpath` for paths below a folder, in less time: it takes a minute for millions of paths."""
    start = os.path.join(os.path.normpath(root), "")
    return [
        (path[len(start) :] if path.startswith(start) else os.path.relpath(path, root)).replace(os.sep, "/")
        for path in map(os.path.normpath, paths)
    ]


def write_split(file: str | Path, root: str | Path, splits: dict[str, Sequence[str]]) -> None:
    """Writes a file with the images of each split, for `load_dataset(..., val_share=file)`.

    Args:
        file: The JSON file to write.
        root: The folder that was given to `load_dataset`. Names in the file are relative to it.
        splits: Image paths by split: `{"train": train.image_paths, "val": val.image_paths}`.

    Example:
        >>> write_split("split.json", "photos", {"train": ["photos/a.jpg"], "val": ["photos/b.jpg"]})
    """
    base = Path(root) if Path(root).is_dir() else Path(root).parent
    names = {split: sorted(_relative(paths, base)) for split, paths in splits.items()}
    Path(file).write_text(json.dumps(names, indent=1), encoding="utf-8")


def read_split(file: Path, names: Sequence[str]) -> np.ndarray:
    """The held out images of a split that was written down, as ascending indices.

    Raises:
        ValueError: If the file is none, or names other images than there are.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{file}: cannot be read as a split: {error}") from error
    lists = content if isinstance(content, dict) else {}
    for split in ("train", "val"):
        if not isinstance(lists.get(split), list) or not all(isinstance(name, str) for name in lists[split]):
            raise ValueError(f"{file}: field {split!r} must be a list of image names")
    val = {*lists["val"]}
    written = {*lists["train"], *val}
    if other := sorted(written ^ {*names}):
        raise ValueError(
            f"{file}: was written for other images: {len(other)} are not on both sides, such as {other[0]}"
        )
    if both := sorted({*lists["train"]} & val):
        raise ValueError(f"{file}: image {both[0]} is in train and in val")
    return np.array([index for index, name in enumerate(names) if name in val], dtype=np.int64)
