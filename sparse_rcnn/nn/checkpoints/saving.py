"""Writes a model to a checkpoint file."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from sparse_rcnn.nn.checkpoints.checkpoint import validate_checkpoint
from sparse_rcnn.nn.detector import SparseRCNN
from sparse_rcnn.nn.digest import DIGEST_KEY, content_digest
from sparse_rcnn.nn.image_size import ImageSize
from sparse_rcnn.nn.weight_file import SAFETENSORS_KEY

__all__ = ["save_checkpoint"]


def save_checkpoint(
    path: str | Path,
    model: SparseRCNN,
    class_names: Sequence[str] | None = None,
    *,
    category_ids: Sequence[int] | None = None,
    image_size: ImageSize | None = None,
) -> None:
    """Writes a model, everything that is needed to use it, and a digest to a file.

    If writing fails, an older file of that name does not change.

    Args:
        path: The path of the file. With the ending `.safetensors`, the file has that format, and the package
            safetensors is needed. Otherwise the file has the format of `torch.save`.
        model: A model from `build_sparse_rcnn` or `build_from_checkpoint`. Its `config` is written, too.
        class_names: K names, by label.
        category_ids: K category ids of the data set, by label.
        image_size: The size to which images are resized. The default is the model's, or else the paper's.

    Raises:
        ValueError: If there is no such directory, the model has no config or does not fit it (for example
            after `fold_norms`), a value is not finite, or names or ids do not fit.
        ImportError: If safetensors is needed and not installed.

    Example:
        >>> from sparse_rcnn import build_sparse_rcnn
        >>> model = build_sparse_rcnn("resnet10", num_classes=2, num_stages=1, backbone_weights=None)
        >>> save_checkpoint("mine.pth", model, ["cat", "dog"])
    """
    path = Path(path)
    if not path.absolute().parent.is_dir():
        raise ValueError(f"{path}: there is no such directory")
    if model.config is None:
        raise ValueError("the model has no config: build it with build_sparse_rcnn, or set model.config")
    size = image_size or model.image_size or ImageSize()
    fields: dict[str, Any] = {"config": model.config.to_dict(), "image_size": ImageSize(*size)._asdict()}
    if class_names is not None:
        fields["class_names"] = list(class_names)
    if category_ids is not None:
        fields["category_ids"] = list(category_ids)
    weights = {key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()}
    content = {**fields, "model": weights}
    validate_checkpoint(content)
    fields[DIGEST_KEY] = content_digest(content)
    temporary = path.with_name(f"{path.name}.tmp")
    try:
        if path.suffix == ".safetensors":
            try:
                from safetensors.torch import save_file
            except ImportError as error:
                raise ImportError(f"{path}: needs safetensors: pip install safetensors") from error
            save_file(weights, temporary, {"format": "pt", SAFETENSORS_KEY: json.dumps(fields)})
        else:
            torch.save({**fields, "model": weights}, temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
