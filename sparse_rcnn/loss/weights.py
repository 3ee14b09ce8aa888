"""The numbers that the matching cost and the loss share (paper, section 4, training details)."""

from typing import NamedTuple

import torch

from sparse_rcnn.ops.guards import require_number

__all__ = ["LossWeights", "require_alpha", "require_weights"]


class LossWeights(NamedTuple):
    """Weights of the three terms, and the two numbers of the focal loss; the defaults are the paper's.

        set_prediction_loss(*predictions, *targets, image_sizes, num_targets, LossWeights(giou=1.0))

    Attributes:
        classification: λ_cls, of cost and loss.
        l1: λ_L1.
        giou: λ_giou.
        alpha: weight of positives, in 0..1; negatives weigh `1 - alpha`. -1 for neither.
        gamma: exponent that turns down well classified examples.
    """

    classification: float = 2.0
    l1: float = 5.0
    giou: float = 2.0
    alpha: float = 0.25
    gamma: float = 2.0


def require_alpha(name: str, alpha: float) -> None:
    """Refuses what is neither in 0..1 nor -1, by a ValueError."""
    if alpha != -1:
        require_number(name, alpha, 0.0, 1.0)


def require_weights(weights: LossWeights) -> None:
    """Refuses weights of another type, negative or not finite, by a ValueError."""
    if not torch.jit.is_scripting() and not isinstance(weights, LossWeights):
        raise ValueError(f"weights must be LossWeights(...), got {type(weights).__name__}")
    require_number("weights.classification", weights.classification)
    require_number("weights.l1", weights.l1)
    require_number("weights.giou", weights.giou)
    require_alpha("weights.alpha", weights.alpha)
    require_number("weights.gamma", weights.gamma)
