"""Batch norms folded into the convolutions before them, for inference.

    norm(W * x) = (s W) * x + (b - s m)        s = g / sqrt(v + eps)

with mean m, variance v, gain g and bias b of the norm: one pass less over every activation.
"""

import copy
import itertools
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights
from torchvision.ops import FrozenBatchNorm2d

__all__ = ["Model", "fold_norms"]

Model = TypeVar("Model", bound=nn.Module)


def fold_norms(model: Model) -> Model:
    """A copy of a model whose batch norms are part of its convolutions.

    Every convolution that is directly followed by a batch norm, frozen or not, takes over its statistics and
    gains a bias; the norm becomes an identity. Group norms depend on the image and stay.

    Args:
        model: in evaluation mode, since a batch norm in training uses the batch's statistics; its modules
            registered in the order in which they run, as torchvision's trunks are.

    Returns:
        The copy, in evaluation mode, with other entries in its state dict than the model's: keep the model to
        save or to train it.

    Raises:
        ValueError: if the model or one of its batch norms is in training mode.
    """
    if model.training or any(m.training for m in model.modules() if isinstance(m, nn.BatchNorm2d)):
        raise ValueError("fold_norms needs a model in evaluation mode: call model.eval() first")
    folded = copy.deepcopy(model)
    for parent in list(folded.modules()):
        children = list(parent.named_children())
        for (_, convolution), (name, norm) in itertools.pairwise(children):
            if isinstance(convolution, nn.Conv2d) and isinstance(norm, (nn.BatchNorm2d, FrozenBatchNorm2d)):
                _fold(convolution, norm)
                setattr(parent, name, nn.Identity())
    return folded


def _fold(convolution: nn.Conv2d, norm: nn.BatchNorm2d | FrozenBatchNorm2d) -> None:
    mean, variance = norm.running_mean, norm.running_var
    if not isinstance(mean, Tensor) or not isinstance(variance, Tensor):
        raise ValueError("fold_norms needs batch norms with running statistics")
    with torch.no_grad():
        weight, bias = fuse_conv_bn_weights(
            convolution.weight, convolution.bias, mean, variance, norm.eps, norm.weight, norm.bias
        )
    convolution.weight, convolution.bias = weight, bias
