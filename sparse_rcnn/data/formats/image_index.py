"""Finds the image of each annotation file, where every image has a file of its own."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from sparse_rcnn.data.formats.counted import counted
from sparse_rcnn.data.formats.layout import key_of, of_split, split_of_path

__all__ = ["ImageIndex", "once_each"]


class ImageIndex:
    """The images below a folder, found by the name of their annotation file.

    Args:
        directory: The folder.
        names: Image files, relative to it, by preference where several have one name.
    """

    def __init__(self, directory: Path, names: Iterable[str]) -> None:
        self.directory = directory
        self._by_key: dict[str, str] = {}
        self._by_stem: dict[str, list[str]] = {}
        self._by_name: dict[str, list[str]] = {}
        for name in names:
            base = os.path.basename(name)
            self._by_key.setdefault(key_of(name), name)
            self._by_stem.setdefault(os.path.splitext(base)[0], []).append(name)
            self._by_name.setdefault(base, []).append(name)

    def match(self, annotations: Mapping[str, str | None]) -> dict[str, str]:
        """The images of annotation files: of the same key, or named inside them.

        Only if no file has an image so, the folders do not correspond, and an image counts that is alone of
        its name. Else a missing image would be taken from another folder.

        Args:
            annotations: Paths of annotation files, relative to the same folder, and what each says that its
                image is called.

        Returns:
            The image of each annotation file that has one.
        """
        found = {}
        for file, named in annotations.items():
            beside = f"{os.path.dirname(file)}/{os.path.basename((named or '').replace(chr(92), '/'))}"
            image = self._by_key.get(key_of(file)) or self._by_key.get(key_of(beside.lstrip("/")))
            if image is not None:
                found[file] = image
        if not found:
            found = {
                file: image for file, named in annotations.items() if (image := self._alone(file, named))
            }
        return found

    def _alone(self, file: str, named: str | None) -> str | None:
        """The only image of a name, outside the folders of other splits."""
        name = os.path.basename((named or "").replace("\\", "/"))
        places = self._by_name.get(name) or self._by_stem.get(os.path.splitext(os.path.basename(file))[0], [])
        places = of_split(places, split_of_path(file))
        return places[0] if len({os.path.splitext(place)[0] for place in places}) == 1 else None


def once_each(found: Mapping[str, str], root: Path) -> tuple[dict[str, str], list[str]]:
    """Annotation files and their images, each image once, and a remark on files that are copies.

    Args:
        found: As of `ImageIndex.match`.
        root: The folder of the annotation files.

    Raises:
        ValueError: If two files of one image have different contents.
    """
    file_of: dict[str, str] = {}
    copies = []
    for file, image in found.items():
        first = file_of.setdefault(image, file)
        if first == file:
            continue
        if (root / first).read_bytes() != (root / file).read_bytes():
            raise ValueError(
                f"{root / first} and {root / file} are both of image {image}, and differ: keep one of them"
            )
        copies.append(str(root / file))
    once = {file: image for image, file in file_of.items()}
    if not copies:
        return once, []
    said = counted(len(copies), "file is a copy", "files are copies")
    return once, [f"{root}: {said} of another file of the same image: left out, such as {copies[0]}"]
