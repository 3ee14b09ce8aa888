"""The iterative head: each stage refines boxes and features of the previous stage (paper, section 3.2)."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from sparse_rcnn.ops.pyramid import flatten_pyramid

__all__ = ["Head", "Predictions"]


class Predictions(NamedTuple):
    """The predictions of every stage.

    Attributes:
        logits: `[L, B, N, K]` before the sigmoid.
        boxes: `[L, B, N, 4]` xyxy in pixels of the padded batch, not clipped.

    Example:
        >>> predictions = Predictions(torch.zeros(6, 1, 100, 80), torch.zeros(6, 1, 100, 4))
        >>> predictions.logits[-1].shape  # of the last stage
        torch.Size([1, 100, 80])
    """

    logits: Tensor
    boxes: Tensor


class Head(nn.Module):
    """Runs stages one after the other.

    Args:
        stages: The stages, at least one.
        feature_reuse: A stage gets the object features of the previous stage. If False, it gets the learned
            proposal features again (paper, Table 4).

    Raises:
        ValueError: If there is no stage.

    Example:
        >>> from sparse_rcnn.nn import Stage
        >>> head = Head([Stage(num_classes=3, hidden_dim=8), Stage(num_classes=3, hidden_dim=8)])
        >>> boxes, features = torch.tensor([[[0.0, 0, 64, 64]]]), torch.zeros(1, 1, 8)
        >>> head([torch.zeros(1, 8, 16, 16)], boxes, features).logits.shape
        torch.Size([2, 1, 1, 3])
    """

    def __init__(self, stages: Sequence[nn.Module], feature_reuse: bool = True) -> None:
        super().__init__()
        if len(stages) == 0:
            raise ValueError("num_stages must be at least 1, got 0")
        self.stages = nn.ModuleList(stages)
        self.feature_reuse = feature_reuse

    def forward(self, levels: list[Tensor], boxes: Tensor, features: Tensor) -> Predictions:
        """Runs all stages.

        Args:
            levels: Feature pyramid, `[B, C, H/4, W/4]` first.
            boxes: Proposal boxes `[B, N, 4]` xyxy in pixels.
            features: Proposal features `[B, N, C]`, or `[1, N, C]` shared by the batch.

        Returns:
            Predictions of every stage.
        """
        pyramid = flatten_pyramid(levels)
        all_logits: list[Tensor] = []
        all_boxes: list[Tensor] = []
        for stage in self.stages:
            logits, boxes, objects = stage(pyramid, boxes, features)
            all_logits.append(logits)
            all_boxes.append(boxes)
            boxes = boxes.detach()  # a stage learns its own step only
            if self.feature_reuse:
                features = objects
        return Predictions(torch.stack(all_logits), torch.stack(all_boxes))
