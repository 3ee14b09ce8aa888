"""Converts checkpoints from and to the layouts of detectron2 (the authors' code) and mmdetection.

All three layouts have the same tensors under different names. The shapes in the checkpoint give the options
of the model. The options give the names and shapes that must be there.
"""

from collections.abc import Mapping
from reprlib import repr as short
from typing import Any

import torch
from torch import Tensor

from sparse_rcnn.nn.checkpoints.config import read_off_config
from sparse_rcnn.nn.checkpoints.empty_model import empty_model
from sparse_rcnn.nn.checkpoints.published_names import (
    NAMINGS,
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
    "infer_config",
    "recognize_layout",
    "to_detectron2",
    "to_mmdetection",
    "unwrap",
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
