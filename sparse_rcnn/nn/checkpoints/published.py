"""Converts checkpoints from and to the layouts of detectron2 (the authors' code) and mmdetection.

All three layouts have the same tensors under different names. The shapes in the checkpoint give the options
of the model. The options give the names and shapes that must be there.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from sparse_rcnn.nn.checkpoints.checkpoint_layout import unwrap
from sparse_rcnn.nn.checkpoints.config import read_off_config
from sparse_rcnn.nn.checkpoints.empty_model import empty_model
from sparse_rcnn.nn.checkpoints.published_names import (
    Naming,
    detectron2_name,
    mmdetection_name,
    our_name,
)
from sparse_rcnn.nn.model_config import ModelConfig
from sparse_rcnn.nn.state_dict import require_same_keys

__all__ = [
    "from_detectron2",
    "from_mmdetection",
    "to_detectron2",
    "to_mmdetection",
]


def from_detectron2(checkpoint: Mapping[str, Any]) -> dict[str, Tensor]:
    """Converts a checkpoint of the authors' code to this library's state dict.

    Args:
        checkpoint: State dict in detectron2's layout, with or without the outer `"model"`.

    Returns:
        State dict for a `build_sparse_rcnn` model with the same options.

    Raises:
        ValueError: If an entry is missing, surplus or of another shape. The message names it.

    Example:
        >>> from sparse_rcnn import build_sparse_rcnn
        >>> model = build_sparse_rcnn("resnet10", num_classes=2, num_stages=1, backbone_weights=None)
        >>> theirs = to_detectron2(model.state_dict())
        >>> from_detectron2({"model": theirs}).keys() == model.state_dict().keys()
        True
    """
    return _to_ours(unwrap(checkpoint), detectron2_name, "detectron2")


def from_mmdetection(checkpoint: Mapping[str, Any]) -> dict[str, Tensor]:
    """Converts a checkpoint of mmdetection to this library's state dict.

    Args:
        checkpoint: State dict in mmdetection's layout, with or without the outer `"state_dict"`.

    Returns:
        State dict for a `build_sparse_rcnn` model with the same options.

    Raises:
        ValueError: If an entry is missing, surplus or of another shape. The message names it.

    Example:
        >>> from sparse_rcnn import build_sparse_rcnn
        >>> model = build_sparse_rcnn("resnet10", num_classes=2, num_stages=1, backbone_weights=None)
        >>> theirs = to_mmdetection(model.state_dict())
        >>> from_mmdetection({"state_dict": theirs}).keys() == model.state_dict().keys()
        True
    """
    return _to_ours(unwrap(checkpoint), mmdetection_name, "mmdetection")


def to_detectron2(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Converts this library's state dict to the layout of the authors' code.

    Do not convert a model with `positional_encoding=True` or `feature_reuse=False`. The layout cannot store
    these options, so the file would load as another model.

    Args:
        state_dict: The state dict of a model with a ResNet.

    Returns:
        State dict in detectron2's layout. The authors' files wrap it as `{"model": ...}`.

    Raises:
        ValueError: If an entry is missing, surplus or of another shape. The message names it.

    Example:
        >>> from sparse_rcnn import build_sparse_rcnn
        >>> model = build_sparse_rcnn("resnet10", num_classes=2, num_stages=1, backbone_weights=None)
        >>> list(to_detectron2(model.state_dict()))[-1]
        'head.head_series.0.bboxes_delta.bias'
    """
    ours = _to_ours(state_dict, our_name, "sparse_rcnn")
    return {detectron2_name(key): value for key, value in ours.items()}


def to_mmdetection(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Converts this library's state dict to mmdetection's layout.

    Do not convert a model with `positional_encoding=True` or `feature_reuse=False`. The layout cannot store
    these options, so the file would load as another model.

    Args:
        state_dict: The state dict of a model with a ResNet.

    Returns:
        State dict in mmdetection's layout. Its files wrap it as `{"state_dict": ...}`.

    Raises:
        ValueError: If an entry is missing, surplus or of another shape. The message names it.

    Example:
        >>> from sparse_rcnn import build_sparse_rcnn
        >>> model = build_sparse_rcnn("resnet10", num_classes=2, num_stages=1, backbone_weights=None)
        >>> list(to_mmdetection(model.state_dict()))[-1]
        'roi_head.bbox_head.0.fc_reg.bias'
    """
    ours = _to_ours(state_dict, our_name, "sparse_rcnn")
    theirs = {}
    for key, value in ours.items():
        theirs[mmdetection_name(key)] = value
        if key.endswith("running_var"):  # mmdetection freezes batch norms by a flag and keeps their counters
            counter = key.replace("running_var", "num_batches_tracked")
            theirs[mmdetection_name(counter)] = torch.zeros((), dtype=torch.int64)
    return theirs


def _to_ours(state_dict: Mapping[str, Tensor], name: Naming, layout: str) -> dict[str, Tensor]:
    # Only trainable batch norms count their batches. The results do not depend on the counters.
    given = {key: value for key, value in state_dict.items() if not key.endswith("num_batches_tracked")}
    config = read_off_config(given, name)
    expected = empty_model(ModelConfig(**config, num_heads=1)).state_dict()
    names = {name(key): key for key in expected}
    require_same_keys(
        {key: expected[ours] for key, ours in names.items()}, given, f"{layout} checkpoint of {config}"
    )
    return {ours: given[key] for key, ours in names.items()}
