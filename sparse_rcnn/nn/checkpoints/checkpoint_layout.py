"""What a checkpoint is: the library that wrote it, its state dict, and the options of its model."""

from collections.abc import Mapping
from reprlib import repr as short
from typing import Any

import torch
from torch import Tensor

from sparse_rcnn.nn.checkpoints.config import read_off_config
from sparse_rcnn.nn.checkpoints.published_names import NAMINGS

__all__ = ["infer_config", "recognize_layout", "unwrap"]


def recognize_layout(checkpoint: Mapping[str, Any]) -> str:
    """Which library wrote a checkpoint. Its keys tell.

    Args:
        checkpoint: The content of a checkpoint file.

    Returns:
        "sparse_rcnn", "detectron2" or "mmdetection".

    Raises:
        ValueError: If it is none of them.

    Example:
        >>> recognize_layout({"model": {"head.head_series.0.bboxes_delta.bias": torch.zeros(4)}})
        'detectron2'
    """
    state_dict = unwrap(checkpoint)
    starts = {"sparse_rcnn": "head.stages.", "detectron2": "head.head_series.", "mmdetection": "roi_head."}
    for layout, start in starts.items():
        if any(key.startswith(start) for key in state_dict):
            return layout
    raise ValueError(
        "not a Sparse R-CNN checkpoint of this library, detectron2 or mmdetection: "
        f"no key starts with {' or '.join(starts.values())}; the first keys are {list(state_dict)[:3]}. "
        "If it holds the weights of a trunk, such as a MobileNetV2 of ImageNet, give it to train.py as "
        "--backbone-weights"
    )


def unwrap(checkpoint: Mapping[str, Any]) -> dict[str, Tensor]:
    """The state dict of a checkpoint: under `"model"` or `"state_dict"`, or the checkpoint itself.

    Args:
        checkpoint: The content of a checkpoint file.

    Returns:
        Its state dict. NumPy arrays become tensors.

    Raises:
        ValueError: If an entry is not a tensor.
    """
    for wrapper in ("model", "state_dict"):
        if isinstance(checkpoint, Mapping) and isinstance(checkpoint.get(wrapper), Mapping):
            checkpoint = checkpoint[wrapper]
            break
    if not isinstance(checkpoint, Mapping):
        raise ValueError(f"a checkpoint must be a dict, got {type(checkpoint).__name__}")
    state_dict = {}
    for key, value in checkpoint.items():
        if not isinstance(key, str):
            raise ValueError(f"entry {short(key)} must have a name, got {type(key).__name__}")
        try:
            state_dict[key] = torch.as_tensor(value)
        except (TypeError, ValueError, RuntimeError) as error:
            raise ValueError(f"entry {key!r} is not a tensor but {type(value).__name__}") from error
    return state_dict


def infer_config(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of `build_sparse_rcnn` for a checkpoint, found from the shapes of its weights.

    Args:
        checkpoint: A checkpoint of this library (with a ResNet), detectron2 or mmdetection.

    Returns:
        The arguments. `num_heads` is missing, since no shape depends on it. It is 8 in all published models.
        The options of the ablations are missing, too: this library stores them in the checkpoint's config.

    Raises:
        ValueError: If a key is missing that is needed for an argument.

    Example:
        >>> from sparse_rcnn import build_sparse_rcnn
        >>> model = build_sparse_rcnn("resnet10", num_classes=2, num_stages=1, backbone_weights=None)
        >>> infer_config(model.state_dict())["num_classes"]
        2
    """
    return read_off_config(unwrap(checkpoint), NAMINGS[recognize_layout(checkpoint)])
