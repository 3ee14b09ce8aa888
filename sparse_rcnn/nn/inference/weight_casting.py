"""Casts weights to half precision once, for inference under autocast, which casts them in every call."""

import copy
from typing import Any

import torch
from torch import nn
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear

from sparse_rcnn.nn.backbones.backbone import Backbone
from sparse_rcnn.nn.detector import SparseRCNN
from sparse_rcnn.nn.inference.first_stage import FixedInteraction
from sparse_rcnn.nn.layer_norm import LayerNorm

__all__ = ["cast_weights"]

_AFFINE = ("weight", "bias")
# By exact types: a subclass may use its weights in other operators than its base class.
_OF_PRODUCTS: dict[type[nn.Module], tuple[str, ...]] = {
    nn.Conv2d: _AFFINE,
    nn.Linear: _AFFINE,
    NonDynamicallyQuantizableLinear: _AFFINE,  # the last layer of an attention
    FixedInteraction: ("kernel1", "kernel2"),
}
# On a CPU, norms use their weights in float32, and attention runs in one operator if these weights are of the
# type of its queries.
_ON_A_GPU: dict[type[nn.Module], tuple[str, ...]] = {
    **_OF_PRODUCTS,
    LayerNorm: _AFFINE,
    nn.MultiheadAttention: ("in_proj_weight", "in_proj_bias"),
}


def cast_weights(model: SparseRCNN, device_type: str, dtype: torch.dtype = torch.bfloat16) -> SparseRCNN:
    """Copies a detector and casts the weights that autocast casts in every call.

    These are the weights of convolutions and matrix products. All others stay as they are, and so do those of
    a backbone of the user's own. Call the copy under `torch.autocast(device_type, dtype)`. Its results are
    then exactly those of the model. Fold first: folding computes constants in full precision.

    Args:
        model: The detector in evaluation mode.
        device_type: The type of the device on which the copy will run, such as "cuda".
        dtype: The type of autocast.

    Returns:
        The copy. Keep the model to save, train or export it.

    Raises:
        ValueError: If the model is in training mode.

    Example:
        >>> from sparse_rcnn import build_sparse_rcnn
        >>> model = build_sparse_rcnn("resnet10", num_proposals=5, num_stages=1, backbone_weights=None)
        >>> cast = cast_weights(model.eval(), "cpu")
        >>> with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        ...     predictions = cast(torch.zeros(1, 3, 64, 64))
    """
    if model.training:
        raise ValueError("cast_weights needs a model in evaluation mode: call model.eval() first")
    names = _ON_A_GPU if device_type == "cuda" else _OF_PRODUCTS
    parts = [model.proposals, model.head]
    if isinstance(model.backbone, Backbone):
        parts.append(model.backbone)
    cast: dict[int, Any] = {}  # by the id of the weight that is not copied
    for module in (module for part in parts for module in part.modules()):
        for name in names.get(type(module), ()):
            weight = getattr(module, name)
            if isinstance(weight, nn.Parameter):
                cast[id(weight)] = nn.Parameter(weight.detach().to(dtype), weight.requires_grad)
            elif weight is not None:
                cast[id(weight)] = weight.to(dtype)
    return copy.deepcopy(model, cast)
