"""The checkpoint that a detector was made of, written to another file: folded weights do not train."""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from torch import nn

from sparse_rcnn.nn.checkpoints.checkpoint import load_checkpoint
from sparse_rcnn.nn.checkpoints.checkpoint_folder import checkpoint_file
from sparse_rcnn.nn.checkpoints.loading import build_from_checkpoint
from sparse_rcnn.nn.checkpoints.saving import save_checkpoint
from sparse_rcnn.nn.detector import SparseRCNN
from sparse_rcnn.nn.image_size import ImageSize

__all__ = ["Origin", "resave"]


class Origin(NamedTuple):
    """A checkpoint file as it was when it was read.

    Attributes:
        file: The file.
        state: The time of its last change in nanoseconds, and its size in bytes.
        backbone: The module, if the model has a backbone of the user's own.
    """

    file: Path
    state: tuple[int, int]
    backbone: nn.Module | None = None

    @classmethod
    def of(cls, path: Path, backbone: nn.Module | None = None) -> "Origin":
        """The origin that a file or folder is now."""
        file = checkpoint_file(path)
        return cls(file, _state_of(file), backbone)

    def read(self) -> SparseRCNN:
        """The model of the checkpoint, not folded. The user's own backbone is copied, not changed.

        Raises:
            ValueError: If the checkpoint is missing or has changed since it was read.
        """
        if not self.file.is_file() or _state_of(self.file) != self.state:
            raise ValueError(f"{self.file}: has changed since the detector was loaded; load it again")
        return build_from_checkpoint(load_checkpoint(self.file), copy.deepcopy(self.backbone))


def resave(
    origin: Origin,
    path: str | Path,
    class_names: Sequence[str],
    category_ids: Sequence[int] | None,
    image_size: ImageSize,
) -> None:
    """Writes the checkpoint to another file, with a digest.

    Args:
        origin: The checkpoint.
        path: The new file. A name that ends in `.safetensors` gives that format, any other that of
            `torch.save`.
        class_names: The K names, by label.
        category_ids: The K category ids, by label, or None.
        image_size: The size to which images are resized.

    Raises:
        ValueError: As in `Origin.read`.
        ImportError: If safetensors is needed and not installed.
    """
    save_checkpoint(path, origin.read(), class_names, category_ids=category_ids, image_size=image_size)


def _state_of(file: Path) -> tuple[int, int]:
    status = file.stat()
    return status.st_mtime_ns, status.st_size
