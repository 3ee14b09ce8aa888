"""The splits of annotation files with one file a split, where several files may claim the same one."""

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from sparse_rcnn.data.formats.annotated_images import AnnotatedImages, ReadOptions
from sparse_rcnn.data.formats.image_folders import split_of_file, word_of
from sparse_rcnn.data.formats.layout import Reader, split_of

__all__ = ["one_of_each", "splits_of_files"]


def splits_of_files(
    files: Iterable[Path], root: Path, reader_of: Callable[[Path], Reader]
) -> dict[str, Reader]:
    """A reader for each split.

    Several files of one split, such as those of 2014 and 2017, are called by their words. If these are the
    same, as of train_part1 and train_part2, the split cannot be read.

    Args:
        files: The annotation files.
        root: The folder of the data set.
        reader_of: From a file to its reader.
    """
    by_split: dict[str, list[Path]] = {}
    for file in files:
        by_split.setdefault(split_of_file(file, root), []).append(file)
    named: list[tuple[str, Path]] = []
    for split, some in by_split.items():
        words = [word_of(file, split) for file in some]
        if split != "all":  # else any names
            words = [word if split_of(word) == split else split for word in words]
        differ = len({*words}) == len(words) if split == "all" else len({*words}) > 1
        named += zip(words if differ and len(some) > 1 else [split] * len(some), some, strict=True)
    return one_of_each(((name, file, reader_of(file)) for name, file in named), root)


def one_of_each(named: Iterable[tuple[str, Path, Reader]], root: Path) -> dict[str, Reader]:
    """Readers by the name of the split. Where several files have one name, the reader refuses to choose.

    Args:
        named: The name of the split, the file and its reader.
        root: The folder of the data set, for the message.
    """
    found: dict[str, list[tuple[Path, Reader]]] = {}
    for name, file, reader in named:
        found.setdefault(name, []).append((file, reader))
    return {
        name: some[0][1] if len(some) == 1 else partial(_refuse, name, [file for file, _ in some], root)
        for name, some in found.items()
    }


def _refuse(name: str, files: list[Path], root: Path, options: ReadOptions) -> AnnotatedImages:
    claimed = "and none says its split" if name == "all" else f"all of the split {name!r}"
    raise ValueError(
        f"{root}: has {len(files)} files, {claimed}: {', '.join(map(str, files))}; join them, or give "
        "the one that is meant in place of the folder (--train-annotations and --val-annotations of train.py)"
    )
