"""Finds the images that an annotation file names. The file may come from another machine."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit

from sparse_rcnn.data.formats.counted import counted
from sparse_rcnn.data.formats.image_names import Folders, images_below, loose_name, missing_message
from sparse_rcnn.data.formats.layout import of_split
from sparse_rcnn.data.image_check import MOST_NAMED

__all__ = ["SAMPLE", "locate_images"]

SAMPLE = 64  # names by which folders are compared before all names are looked for


def locate_images(
    names: Sequence[str],
    candidates: Iterable[Path],
    root: Path,
    file: Path,
    allow_missing: bool,
    split: str | None = None,
) -> tuple[list[str], list[str]]:
    """Finds the images of a file.

    Names are tried below each of the candidate folders. If no image is found there, they are searched by
    their last part anywhere below the root. If some are found, the others are missing: they are not taken
    from other folders.

    Args:
        names: The names in the file, with slashes or backslashes, relative or absolute.
        candidates: Folders that names may be relative to, by preference.
        root: Folder to search if no image is found there.
        file: For messages.
        allow_missing: Keep names of files that are not there.
        split: The split of the file. Folders of other splits are not searched.

    Returns:
        A path for each name, and remarks.

    Raises:
        ValueError: If images are nowhere, or in several places. The message names them.
    """
    folders = Folders()
    bases = list(dict.fromkeys(os.path.normpath(base) for base in candidates if base.is_dir()))
    plain = [_plain(name) for name in names]
    some = plain[:: max(1, len(plain) // SAMPLE)]
    share = {base: sum(folders.has(os.path.join(base, name)) for name in some) for base in bases}
    bases.sort(key=lambda base: -share[base])
    best: list[str] = []
    hits = -1
    for base in bases:
        paths = [os.path.join(base, name) for name in plain]
        found = sum(map(folders.has, paths))
        if found > hits:
            best, hits = paths, found
        if found == len(plain):
            return paths, []
        if not share[base]:
            break  # nor will the rest have any
    if not best:
        best = [os.path.join(root, name) for name in plain]
    anywhere = of_split(images_below(root), split) if hits <= 0 else None
    return _search(names, plain, best, anywhere, root, file, allow_missing, folders)


def _plain(name: str) -> str:
    """A name with slashes, without drive, root or "../". From a URL, its path."""
    name = name.split("?d=")[-1].replace("\\", "/")
    if "://" in name:
        name = unquote(urlsplit(name).path)
    parts = [part for part in name.split("/") if part not in ("", ".", "..")]
    if parts and len(parts[0]) == 2 and parts[0][1] == ":":
        parts = parts[1:]
    return "/".join(parts)


def _search(
    names: Sequence[str],
    plain: list[str],
    paths: list[str],
    anywhere: list[str] | None,
    root: Path,
    file: Path,
    allow_missing: bool,
    folders: Folders,
) -> tuple[list[str], list[str]]:
    """Looks anywhere for images that are not where they should be. None: not even that."""
    loosely: dict[str, list[str]] = {}  # by the name without suffix, in one spelling
    by_name: dict[str, list[str]] = {}
    for relative in anywhere or ():
        by_name.setdefault(os.path.basename(relative), []).append(relative)
        loosely.setdefault(loose_name(relative), []).append(relative)
    missing: list[str] = []
    moved = renamed = 0
    for number, path in enumerate(paths):
        if folders.has(path):
            continue
        if len(near := folders.alike(path)) == 1:
            paths[number] = near[0]
            moved += 1
            renamed += 1
            continue
        found = []
        if anywhere:
            found = _most_alike(plain[number], by_name.get(os.path.basename(plain[number]), []))
        if anywhere and not found:
            found = _most_alike(plain[number], loosely.get(loose_name(plain[number]), []))
            renamed += bool(found)
        if len(found) == 1:
            paths[number] = os.path.join(root, found[0])
            moved += 1
        elif found:
            raise ValueError(
                f"{file}: image {names[number]!r} is in several places: {', '.join(found[:MOST_NAMED])}; "
                "give the folder of the images (--train-images and --val-images of train.py)"
            )
        else:
            missing.append(names[number])
    if missing and not allow_missing:
        folder = os.path.normpath(paths[0][: -len(plain[0])])
        where = f"in {folder}, " + ("where others are" if anywhere is None else f"nor elsewhere in {root}")
        raise ValueError(missing_message(missing, len(names), where, file))
    how = f", {renamed} of them with another suffix or in another spelling" if renamed else ""
    said = counted(moved, "image is", "images are")
    remarks = [f"{file}: {said} not where it says; found by name in {root}{how}"]
    return paths, remarks if moved else []


def _most_alike(name: str, places: list[str]) -> list[str]:
    """The places that share the most folders with the name, counted from its end."""
    wanted = name.split("/")[::-1]

    def shared(place: str) -> int:
        pairs = zip(wanted, place.split("/")[::-1], strict=False)
        return next((count for count, (a, b) in enumerate(pairs) if a != b), len(wanted))

    most = max(map(shared, places), default=0)
    return [place for place in places if shared(place) == most]
