"""Published checkpoints: from and to the key layouts of detectron2 (the authors' code) and mmdetection.

Tensors are the same in all three layouts, only their names differ. Which names must be there, and their
shapes, follows from the size of the model, and that is read off the checkpoint itself.
"""

from collections.abc import Mapping
from reprlib import repr as short
from typing import Any

import torch
from torch import Tensor

from sparse_rcnn.nn.build import build_sparse_rcnn
from sparse_rcnn.nn.checkpoints.config import read_off_config
from sparse_rcnn.nn.checkpoints.published_names import (
    NAMINGS,
    Naming,
    detectron2_name,
    mmdetection_name,
    our_name,
)
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
    """A checkpoint of the authors' code as this library's state dict.

    Args:
        checkpoint: state dict in detectron2's layout, with or without the outer `"model"`.

    Returns:
        State dict for a `build_sparse_rcnn` model of the same size.

    Raises:
        ValueError: if an entry is missing, surplus or of another shape; the message names it.
    """
    return _to_ours(unwrap(checkpoint), detectron2_name, "detectron2")


def from_mmdetection(checkpoint: Mapping[str, Any]) -> dict[str, Tensor]:
    """A checkpoint of mmdetection as this library's state dict.

    Args:
        checkpoint: state dict in mmdetection's layout, with or without the outer `"state_dict"`.

    Returns:
        State dict for a `build_sparse_rcnn` model of the same size.

    Raises:
        ValueError: if an entry is missing, surplus or of another shape; the message names it.
    """
    return _to_ours(unwrap(checkpoint), mmdetection_name, "mmdetection")


def to_detectron2(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """This library's state dict in the layout of the authors' code.

    Args:
        state_dict: of a model with a ResNet. Shapes must tell all of it: no layout has a place for the
            ablations `positional_encoding` and `feature_reuse`, and their models would load as others.

    Returns:
        State dict in detectron2's layout (their files wrap it as `{"model": ...}`).

    Raises:
        ValueError: if an entry is missing, surplus or of another shape; the message names it.
    """
    ours = _to_ours(state_dict, our_name, "sparse_rcnn")
    return {detectron2_name(key): value for key, value in ours.items()}


def to_mmdetection(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """This library's state dict in mmdetection's layout.

    Args:
        state_dict: of a model with a ResNet. Shapes must tell all of it: no layout has a place for the
            ablations `positional_encoding` and `feature_reuse`, and their models would load as others.

    Returns:
        State dict in mmdetection's layout (their files wrap it as `{"state_dict": ...}`).

    Raises:
        ValueError: if an entry is missing, surplus or of another shape; the message names it.
    """
    ours = _to_ours(state_dict, our_name, "sparse_rcnn")
    theirs = {}
    for key, value in ours.items():
        theirs[mmdetection_name(key)] = value
        if key.endswith("running_var"):  # their batch norms are frozen by a flag and keep their counters
            counter = key.replace("running_var", "num_batches_tracked")
            theirs[mmdetection_name(counter)] = torch.zeros((), dtype=torch.int64)
    return theirs


def recognize_layout(checkpoint: Mapping[str, Any]) -> str:
    """Whose checkpoint it is, by its keys.

    Args:
        checkpoint: a checkpoint as loaded from its file.

    Returns:
        "sparse_rcnn", "detectron2" or "mmdetection".

    Raises:
        ValueError: if it is none of them.
    """
    state_dict = unwrap(checkpoint)
    starts = {"sparse_rcnn": "head.stages.", "detectron2": "head.head_series.", "mmdetection": "roi_head."}
    for layout, start in starts.items():
        if any(key.startswith(start) for key in state_dict):
            return layout
    raise ValueError(
        "not a Sparse R-CNN checkpoint of this library, detectron2 or mmdetection: "
        f"no key starts with {' or '.join(starts.values())}; the first keys are {list(state_dict)[:3]}"
    )


def unwrap(checkpoint: Mapping[str, Any]) -> dict[str, Tensor]:
    """The state dict of a checkpoint: below `"model"` or `"state_dict"`, or the checkpoint itself.

    Args:
        checkpoint: a checkpoint as loaded from its file.

    Returns:
        Its state dict; NumPy arrays become tensors.

    Raises:
        ValueError: if an entry is not a tensor.
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
    """Arguments of `build_sparse_rcnn` for a checkpoint, read off its shapes.

    Args:
        checkpoint: a checkpoint of this library (of a model with a ResNet), detectron2 or mmdetection.

    Returns:
        The arguments but `num_heads`, which no shape tells and which is 8 in every published model, and
        those that say which part of the head is there or used, as in Sparse R-CNN: what trained an ablation
        writes its config.

    Raises:
        ValueError: if no shape tells one of them.
    """
    return read_off_config(unwrap(checkpoint), NAMINGS[recognize_layout(checkpoint)])


def _to_ours(state_dict: Mapping[str, Tensor], name: Naming, layout: str) -> dict[str, Tensor]:
    # Only trainable batch norm counts its batches; no inference depends on the counters.
    given = {key: value for key, value in state_dict.items() if not key.endswith("num_batches_tracked")}
    config = read_off_config(given, name)
    with torch.device("meta"):
        model = build_sparse_rcnn(**config, num_heads=1, backbone_weights=None)
    expected = model.state_dict()
    names = {name(key): key for key in expected}
    require_same_keys(
        {key: expected[ours] for key, ours in names.items()}, given, f"{layout} checkpoint of {config}"
    )
    return {ours: given[key] for key, ours in names.items()}
