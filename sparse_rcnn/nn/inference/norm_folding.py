"""Folds batch norms into the convolutions before them, for faster inference.

    norm(W * x) = (s W) * x + (b - s m)        s = g / sqrt(v + eps)

m, v, g and b are mean, variance, gain and bias of the norm. Folding saves one pass over every activation.
"""

import copy
import itertools
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from sparse_rcnn.nn.backbones.frozen_norm import FrozenNorm2d

__all__ = ["Model", "fold_norms"]

Model = TypeVar("Model", bound=nn.Module)


def fold_norms(model: Model) -> Model:
    """Copies a model and folds its batch norms into its convolutions.

    A convolution directly before a batch norm, frozen or not, gets new weights and a bias. The norm becomes
    an identity. Group norms do not change, since their statistics depend on the image.

    Args:
        model: The model in evaluation mode. Its modules must be registered in the order in which they run, as
            in torchvision's trunks.

    Returns:
        The copy in evaluation mode. Its state dict has other entries than the model's: keep the model to save
        or train it.

    Raises:
        ValueError: If the model or one of its batch norms is in training mode.

    Example:
        >>> model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8)).eval()
        >>> fold_norms(model)[1]
        Identity()
    """
    if model.training or any(m.training for m in model.modules() if isinstance(m, nn.BatchNorm2d)):
        raise ValueError("fold_norms needs a model in evaluation mode: call model.eval() first")
    folded = copy.deepcopy(model)
    for parent in list(folded.modules()):
        children = list(parent.named_children())
        for (_, convolution), (name, norm) in itertools.pairwise(children):
            if isinstance(convolution, nn.Conv2d) and _is_batch_norm(norm):
                _fold(convolution, norm)
                setattr(parent, name, nn.Identity())
    return folded


def _is_batch_norm(module: nn.Module) -> bool:
    # By name, so that torchvision is not imported. The user's own backbone may have its norm.
    is_torchvisions = any(kind.__name__ == "FrozenBatchNorm2d" for kind in type(module).__mro__)
    return isinstance(module, (nn.BatchNorm2d, FrozenNorm2d)) or is_torchvisions


def _fold(convolution: nn.Conv2d, norm: Any) -> None:
    mean, variance = norm.running_mean, norm.running_var
    if not isinstance(mean, Tensor) or not isinstance(variance, Tensor):
        raise ValueError("fold_norms needs batch norms with running statistics")
    with torch.no_grad():
        weight, bias = fuse_conv_bn_weights(
            convolution.weight, convolution.bias, mean, variance, norm.eps, norm.weight, norm.bias
        )
    convolution.weight, convolution.bias = weight, bias
