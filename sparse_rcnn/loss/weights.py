"""The numbers that the matching cost and the loss share (paper, section 4, training details)."""

from typing import NamedTuple

import torch

from sparse_rcnn.ops.argument_checks import require_number

__all__ = ["LossWeights", "require_alpha", "require_weights"]


class LossWeights(NamedTuple):
    """Weights of the three terms, and the numbers of the focal loss. The defaults are the paper's.

    Attributes:
        classification: λ_cls of the matching cost and of the loss.
        l1: λ_L1 of both.
        giou: λ_giou of both.
        alpha: The weight of positives in the focal loss, in 0..1. Negatives have `1 - alpha`. -1: no weights.
        gamma: The exponent of the focal loss. A larger exponent takes more weight from well classified
            examples.
        least_quality: 1: the class score of a matched proposal learns 1, as in the paper. Below 1: it learns
            the IoU of its box with the target, at least this number (Li et al. 2020, Generalized Focal Loss,
            section 3.2). The score then says how well the box fits. The matching cost does not use it.

    Example:
        >>> LossWeights(giou=1.0)
        LossWeights(classification=2.0, l1=5.0, giou=1.0, alpha=0.25, gamma=2.0, least_quality=1.0)
    """

    classification: float = 2.0
    l1: float = 5.0
    giou: float = 2.0
    alpha: float = 0.25
    gamma: float = 2.0
    least_quality: float = 1.0


def require_alpha(name: str, alpha: float) -> None:
    """Raises ValueError unless alpha is in 0..1 or -1."""
    require_number(name, alpha, -float("inf"), float("inf"))  # before it is compared: a tensor may be empty
    if alpha != -1:
        require_number(name, alpha, 0.0, 1.0)


def require_weights(weights: LossWeights) -> None:
    """Raises ValueError unless `weights` is a `LossWeights` of finite numbers that are not negative."""
    if not torch.jit.is_scripting() and not isinstance(weights, LossWeights):
        raise ValueError(f"weights must be LossWeights(...), got {type(weights).__name__}")
    require_number("weights.classification", weights.classification)
    require_number("weights.l1", weights.l1)
    require_number("weights.giou", weights.giou)
    require_alpha("weights.alpha", weights.alpha)
    require_number("weights.gamma", weights.gamma)
    require_number("weights.least_quality", weights.least_quality, 0.0, 1.0)
