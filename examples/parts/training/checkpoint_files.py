"""The checkpoints of a run. Writing never leaves a partial file. Damaged files are found. The last few stay.

`checkpoints/00001000-3f5a...pth` is the checkpoint of iteration 1000. Its name has the beginning of its
SHA-256, as in the names of torchvision's weights. `checkpoint.pth` is a second name (a hard link) of the
newest.
"""

import errno
import hashlib
import io
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from sparse_rcnn.nn.digest import DIGEST_KEY, content_digest

NAME = re.compile(r"(\d{8,})-([0-9a-f]{16})\.pth")


class CheckpointDirectory:
    """The checkpoints of a run.

    Args:
        output: The directory of the run.
        keep: The number of checkpoints to keep.
    """

    def __init__(self, output: Path, keep: int = 3) -> None:
        self.output = output
        self.directory = output / "checkpoints"
        self.newest = output / "checkpoint.pth"
        self.best = output / "best.pth"
        self.keep = keep

    def room(self) -> tuple[Path, int]:
        """The innermost directory that exists, and the free bytes on its disk."""
        there = next(
            path for path in (self.output.absolute(), *self.output.absolute().parents) if path.exists()
        )
        return there, shutil.disk_usage(there).free

    def check_room(self, size: int) -> None:
        """Raises ValueError if the disk has no room for one more checkpoint of that size in bytes."""
        there, free = self.room()
        if size > free:
            raise ValueError(
                f"the disk of {there} has {free / 1e9:.2f} GB free, and a checkpoint takes "
                f"{size / 1e9:.2f} GB: make room, or give another --output"
            )

    def save(self, checkpoint: dict[str, Any], iteration: int) -> Path:
        """Writes a checkpoint and removes the oldest ones.

        Raises:
            OSError: If it cannot be written, such as on a full disk. All older checkpoints are still there.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        # Write to memory first. On a full disk, errors of torch's writer cannot be caught safely. The digest
        # needs all bytes, too.
        buffer = io.BytesIO()
        torch.save({**checkpoint, DIGEST_KEY: content_digest(checkpoint)}, buffer)
        content = buffer.getbuffer()
        path = self.directory / f"{iteration:08d}-{hashlib.sha256(content).hexdigest()[:16]}.pth"
        temporary = self.directory / "writing.tmp"
        try:
            with temporary.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
        _sync(self.directory)
        self._point_to(path)
        for old in self._paths()[self.keep :]:
            if old != path:
                old.unlink()
        return path

    def find_newest(self, tell: Callable[[str], None], repair: bool = True) -> Path | None:
        """The newest checkpoint that is not damaged. Damaged ones are renamed.

        Args:
            tell: A function that gets a sentence about each damaged checkpoint.
            repair: False: nothing is renamed.

        Returns:
            Its path, or None if there is none. If files were put there by hand, `checkpoint.pth`.

        Raises:
            ValueError: If there are checkpoints, but none can be read now. A later try may succeed.
        """
        damaged: list[Path] = []
        unreadable = ""
        for path in self._paths():
            try:
                whole = _is_whole(path)
            except OSError as error:  # a network drive or a bad sector: the file may be good
                unreadable = f"{path} cannot be read: {error}"
                tell(f"{unreadable}; trying the previous checkpoint")
                continue
            if whole:
                # A process may have died between writing one and pointing to it.
                if repair and not (self.newest.is_file() and self.newest.samefile(path)):
                    self._point_to(path)
                return path
            if not repair:
                tell(f"{path} is damaged; trying the previous checkpoint")
                continue
            aside = path.with_suffix(".damaged")
            os.replace(path, aside)
            damaged.append(aside)
            tell(f"{path} is damaged, now {aside.name}; trying the previous checkpoint")
        if unreadable:
            raise ValueError(f"{unreadable}; to start a new run, move {self.output} away")
        if damaged:
            tell(f"all checkpoints in {self.directory} are damaged")
        if not self.newest.is_file():
            return None
        if any(self.newest.samefile(path) for path in damaged):  # the same content under its other name
            self.newest.unlink()
            return None
        return self.newest

    def _paths(self) -> list[Path]:
        """The checkpoints, newest first. Of the same iteration, the last written one comes first."""
        paths = [path for path in self.directory.glob("*.pth") if NAME.fullmatch(path.name)]
        age = {path: (int(path.name.split("-")[0]), path.stat().st_mtime_ns) for path in paths}
        return sorted(paths, key=age.__getitem__, reverse=True)

    def keep_best(self) -> None:
        """The newest checkpoint is the best so far: it stays as ``best.pth``."""
        self._point_to(self.newest, self.best)

    def _point_to(self, path: Path, name: Path | None = None) -> None:
        name = name or self.newest
        temporary = name.with_suffix(".tmp")
        temporary.unlink(missing_ok=True)
        try:
            os.link(path, temporary)
        except OSError:  # a file system without hard links
            try:
                shutil.copyfile(path, temporary)
                _sync(temporary)
            except OSError:
                temporary.unlink(missing_ok=True)
                raise
        os.replace(temporary, name)
        temporary.unlink(missing_ok=True)  # replacing a name by another of the same file leaves both
        _sync(self.output)


def _is_whole(path: Path) -> bool:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return path.stem.endswith(f"-{digest.hexdigest()[:16]}")


def _sync(path: Path) -> None:
    """Writes a file, or the names in a directory, to the disk, so that a loss of power does not lose it."""
    if os.name == "nt" and path.is_dir():  # Windows opens no directories
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some network drives cannot for directories
            raise
    finally:
        os.close(descriptor)
