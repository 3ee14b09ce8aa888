"""Names of image files: which ones are images, which of them exist, and how messages show them."""

import os
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import unquote

from sparse_rcnn.data.formats.data_folders import walk
from sparse_rcnn.data.image_check import MOST_NAMED

__all__ = [
    "IMAGE_SUFFIXES",
    "Folders",
    "first_names",
    "images_below",
    "is_image",
    "listing",
    "loose_name",
    "missing_message",
    "refuse_missing",
    "shortened",
    "suffix_order",
]

# If an image exists in several formats, the first one counts. Other formats of PIL are no photographs.
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".jfif", ".ppm", ".pgm", ".gif")


def is_image(name: str) -> bool:
    """Whether a file's name says that it is an image."""
    return os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES and not os.path.basename(name).startswith(".")


def suffix_order(name: str) -> tuple[int, str]:
    """Sorts image files by how much their format is preferred."""
    return IMAGE_SUFFIXES.index(os.path.splitext(name)[1].lower()), name


def images_below(directory: str | Path) -> list[str]:
    """All image files in a folder and its subfolders, as sorted paths relative to it, with slashes."""
    return sorted(prefix + name for prefix, files in walk(directory) for name in files if is_image(name))


def listing(directory: str | Path) -> set[str]:
    """The names in a folder; none if there is no such folder."""
    try:
        return set(os.listdir(directory))
    except (OSError, ValueError):  # ValueError: a NUL character in the name
        return set()


class Folders:
    """Finds whether files exist. It lists each folder once, which is faster than to ask for each file."""

    def __init__(self) -> None:
        self._known: dict[str, set[str]] = {}
        self._alike: dict[str, dict[str, list[str]]] = {}

    def has(self, path: str) -> bool:
        """Whether there is such a file."""
        folder, name = os.path.split(path)
        if folder not in self._known:
            self._known[folder] = listing(folder or ".")
        return name in self._known[folder]

    def alike(self, path: str) -> list[str]:
        """Images in the folder of a file that differ by suffix or spelling only."""
        folder, name = os.path.split(path)
        if folder not in self._known:
            self._known[folder] = listing(folder or ".")
        if not self._known[folder]:
            return []
        if folder not in self._alike:
            found = self._alike[folder] = {}
            for other in sorted(filter(is_image, self._known[folder])):
                found.setdefault(loose_name(other), []).append(os.path.join(folder, other))
        return self._alike.get(folder, {}).get(loose_name(name), [])


def refuse_missing(image_dir: Path, names: Sequence[str], file: Path) -> None:
    """Raises ValueError naming images that are not in a folder."""
    folders = Folders()
    missing = [name for name in names if not folders.has(os.path.join(image_dir, name))]
    if missing:
        raise ValueError(missing_message(missing, len(names), f"in {image_dir}", file))


def missing_message(missing: Sequence[str], count: int, where: str, file: Path) -> str:
    """The message: "file: 2 of 10 images are not in folder: a.jpg, b.jpg"."""
    return f"{file}: {len(missing)} of {count} images are not {where}: {first_names(missing)}"


def first_names(names: Sequence[str]) -> str:
    """Some names for a message, with dots if there are more."""
    return ", ".join(map(shortened, names[:MOST_NAMED])) + (", ..." if len(names) > MOST_NAMED else "")


def shortened(name: str, most: int = 200) -> str:
    """A name for a message: that of a broken file may have thousands of characters."""
    return name if len(name) <= most else f"{name[:most]}..."


def loose_name(name: str) -> str:
    """A name without suffix, in one spelling: without differences of case, Unicode form and "%20"."""
    base = unicodedata.normalize("NFC", unquote(os.path.basename(name)))
    return (os.path.splitext(base)[0] if is_image(base) else base).casefold()
