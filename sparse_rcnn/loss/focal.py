"""Sigmoid focal loss (Lin et al. 2017, Focal Loss for Dense Object Detection, equation 5).

FL = -alpha_t (1 - p_t)^gamma ln(p_t)
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from sparse_rcnn.loss.weights import require_alpha
from sparse_rcnn.ops.argument_checks import readable, require_number, require_real
from sparse_rcnn.ops.boxes import at_least_float32

__all__ = ["quality_focal_terms", "sigmoid_focal_loss"]


def sigmoid_focal_loss(logits: Tensor, targets: Tensor, alpha: float = 0.25, gamma: float = 2.0) -> Tensor:
    """Focal loss of each logit, not reduced.

    Args:
        logits: `[...]` before the sigmoid.
        targets: `[...]` of any type, 1 for the positive class and 0 otherwise.
        alpha: The weight of positives, in 0..1. Negatives have `1 - alpha`. -1, as in torchvision:
            no weights.
        gamma: The exponent. A larger exponent takes more weight from well classified examples.

    Returns:
        `[...]`, at least float32.

    Raises:
        ValueError: If the shapes differ, `alpha` is neither in 0..1 nor -1, or `gamma` is negative.

    Example:
        >>> sigmoid_focal_loss(torch.tensor([2.0, -2.0]), torch.tensor([1.0, 1.0]))
        tensor([0.0005, 0.4125])
    """
    require_real("logits", logits)
    if not torch.jit.is_scripting() and not isinstance(targets, Tensor):
        raise ValueError(f"targets must be a tensor, got {type(targets).__name__}")
    require_alpha("alpha", alpha)
    require_number("gamma", gamma)
    if logits.shape != targets.shape:
        raise ValueError(f"logits and targets must have one shape, got {logits.shape} and {targets.shape}")
    if not torch.jit.is_scripting():
        _require_probabilities(targets)
    logits = at_least_float32(logits)
    targets = targets.to(logits.dtype)
    probability = logits.sigmoid()
    cross_entropy = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    wrong = probability * (1 - targets) + (1 - probability) * targets  # 1 - p_t
    # The clamp keeps the gradient finite: the derivative of 0 to a power below 1 is infinite.
    focal = torch.pow(wrong.clamp(min=1e-37), gamma) * cross_entropy
    if alpha == -1:
        return focal
    return (alpha * targets + (1 - alpha) * (1 - targets)) * focal


def quality_focal_terms(logits: Tensor, quality: Tensor, alpha: float, gamma: float) -> Tensor:
    """The quality focal loss of each logit (Li et al. 2020, Generalized Focal Loss, equation 4).

    |q - p|^gamma · cross entropy of p and q. Where q is 0 or 1, it is the focal loss.

    Args:
        logits: `[...]` before the sigmoid.
        quality: `[...]` in 0..1, what the probabilities learn. Above 0: a positive.
        alpha: The weight of positives. Negatives have `1 - alpha`. -1: no weights.
        gamma: The exponent.

    Returns:
        `[...]`, at least float32.
    """
    logits = at_least_float32(logits)
    quality = quality.to(logits.dtype)
    cross_entropy = F.binary_cross_entropy_with_logits(logits, quality, reduction="none")
    wrong = (quality - logits.sigmoid()).abs()
    focal = torch.pow(wrong.clamp(min=1e-37), gamma) * cross_entropy
    if alpha == -1:
        return focal
    positive = (quality > 0).to(logits.dtype)
    return (alpha * positive + (1 - alpha) * (1 - positive)) * focal


def _require_probabilities(targets: Tensor) -> None:
    if targets.dtype != torch.bool:
        require_real("targets", targets)
    if readable(targets):
        wrong = targets[~((targets >= 0) & (targets <= 1))]
        if wrong.numel() > 0:
            raise ValueError(f"targets must be in 0..1, got {wrong[0].item()}")
