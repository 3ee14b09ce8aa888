"""The content of a checkpoint, checked before a model is built from it."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from sparse_rcnn.nn.checkpoints.checkpoint_folder import checkpoint_file, with_config_file
from sparse_rcnn.nn.checkpoints.checkpoint_layout import infer_config, recognize_layout, unwrap
from sparse_rcnn.nn.checkpoints.empty_model import empty_model
from sparse_rcnn.nn.checkpoints.fields import known_category_ids, known_class_names, known_image_size
from sparse_rcnn.nn.checkpoints.published import from_detectron2, from_mmdetection
from sparse_rcnn.nn.digest import DIGEST_KEY
from sparse_rcnn.nn.image_size import ImageSize
from sparse_rcnn.nn.model_config import OWN_BACKBONE, ModelConfig
from sparse_rcnn.nn.state_dict import require_finite, require_same_keys
from sparse_rcnn.nn.weight_file import read_checkpoint

__all__ = [
    "Checkpoint",
    "expected_state_dict",
    "load_checkpoint",
    "our_state_dict",
    "validate_checkpoint",
]


class Checkpoint(NamedTuple):
    """A checked checkpoint of this library, detectron2 or mmdetection.

    Attributes:
        weights: The state dict in this library's layout.
        config: The options of the model.
        class_names: The names by label, or None. The authors' files have no names: their classes are COCO's.
        category_ids: The category ids of the data set by label, or None.
        image_size: The size to which images are resized.
        layout: "sparse_rcnn", "detectron2" or "mmdetection".
        remarks: Sentences about what is unusual but no error.
        content: The whole content of the file.

    Example:
        >>> from sparse_rcnn.nn import build_sparse_rcnn, save_checkpoint
        >>> model = build_sparse_rcnn("resnet10", num_classes=2, num_stages=1, backbone_weights=None)
        >>> save_checkpoint("mine.pth", model, ["cat", "dog"])
        >>> load_checkpoint("mine.pth").class_names
        ['cat', 'dog']
    """

    weights: dict[str, Tensor]
    config: ModelConfig
    class_names: list[str] | None
    category_ids: list[int] | None
    image_size: ImageSize
    layout: str
    remarks: list[str]
    content: Mapping[str, Any]


def load_checkpoint(path: str | Path) -> Checkpoint:
    """Reads and checks a checkpoint file of this library, detectron2 or mmdetection.

    Args:
        path: A `.pth` or `.safetensors` file, or a folder. From a folder, the first of these is taken:
            `model.safetensors` (with `config.json`, if its header says nothing), `best.pth` or
            `checkpoint.pth`.

    Returns:
        The checkpoint. Its `remarks` say what is unusual, such as a file without a digest.

    Raises:
        ValueError: If the file is missing or damaged, has code in it, or its parts do not fit together. The
            message starts with the path and names the entry.
        ImportError: If it is a `.safetensors` file and safetensors is not installed.

    Example:
        >>> from sparse_rcnn.nn import build_sparse_rcnn, save_checkpoint
        >>> model = build_sparse_rcnn("resnet10", num_classes=2, num_stages=1, backbone_weights=None)
        >>> save_checkpoint("mine.pth", model)
        >>> load_checkpoint("mine.pth").config.num_classes
        2
    """
    file = checkpoint_file(path)
    content = read_checkpoint(file)
    try:
        return validate_checkpoint(with_config_file(content, file) if Path(path).is_dir() else content)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def validate_checkpoint(content: Mapping[str, Any]) -> Checkpoint:
    """Checks the content of a checkpoint file.

    Args:
        content: The result of `read_checkpoint`.

    Returns:
        The checkpoint.

    Raises:
        ValueError: If an entry is of a wrong type, out of bounds, missing, surplus, of a shape that does not
            fit the config, or not finite. The message names it.
    """
    layout = recognize_layout(content)
    remarks = _remarks(content) if layout == "sparse_rcnn" else []
    options = content["config"] if "config" in content else infer_config(content)
    config = ModelConfig.from_dict(options)
    weights = our_state_dict(content)
    expected = expected_state_dict(config)
    # Only trainable batch norms count their batches. The results do not depend on the counters.
    weights = {k: v for k, v in weights.items() if k in expected or not k.endswith("num_batches_tracked")}
    needed = {k: v for k, v in expected.items() if k in weights or not k.endswith("num_batches_tracked")}
    compared = weights
    if config.backbone == OWN_BACKBONE:  # its entries are not known here
        compared = {key: value for key, value in weights.items() if not key.startswith("backbone.")}
    require_same_keys(needed, compared, f"the checkpoint does not fit the model of its config {config}")
    return Checkpoint(
        weights,
        config,
        known_class_names(content, config.num_classes),
        known_category_ids(content, config.num_classes),
        known_image_size(content),
        layout,
        remarks,
        content,
    )


def our_state_dict(content: Mapping[str, Any]) -> dict[str, Tensor]:
    """The state dict of any known checkpoint in this library's layout.

    Args:
        content: The content of a file of this library, detectron2 or mmdetection. Its keys tell which.

    Returns:
        The state dict in this library's layout.

    Raises:
        ValueError: If it is none of them, a published one is not complete, or a value is not finite.
    """
    convert = {"detectron2": from_detectron2, "mmdetection": from_mmdetection}
    state_dict = convert.get(recognize_layout(content), unwrap)(content)
    require_finite(state_dict)
    return state_dict


def expected_state_dict(config: ModelConfig) -> dict[str, Tensor]:
    """The state dict of a model of that config, without values, and without a backbone of the user's own."""
    named = replace(config, backbone="resnet10") if config.backbone == OWN_BACKBONE else config
    entries = empty_model(named).state_dict()
    if config.backbone == OWN_BACKBONE:
        return {key: value for key, value in entries.items() if not key.startswith("backbone.")}
    return entries


def _remarks(content: Mapping[str, Any]) -> list[str]:
    remarks = []
    if content.get(DIGEST_KEY) is None:
        remarks.append("has no digest: damage to the file cannot be detected")
    if "config" not in content:
        remarks.append("has no config: the options come from the shapes of the weights, with 8 heads")
    elif "image_size" not in content:
        remarks.append("has no image_size: the paper's 800 and 1333 are used")
    return remarks
