"""The iterative head: every stage refines the boxes and features of the one before (paper, section 3.2)."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from sparse_rcnn.ops.roi_align import flatten_pyramid

__all__ = ["Head", "Predictions"]


class Predictions(NamedTuple):
    """What every stage predicts.

    Attributes:
        logits: `[L, B, N, K]` before the sigmoid.
        boxes: `[L, B, N, 4]` xyxy in pixels of the padded batch, not clipped.
    """

    logits: Tensor
    boxes: Tensor


class Head(nn.Module):
    """Stages one after the other.

    Args:
        stages: the stages, at least one.
        feature_reuse: a stage gets the object features of the one before, and not the learned proposal
            features again (paper, Table 4).

    Raises:
        ValueError: if there is no stage.
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
            levels: feature pyramid, `[B, C, H/4, W/4]` first.
            boxes: proposal boxes `[B, N, 4]` xyxy in pixels.
            features: proposal features `[B, N, C]`, or `[1, N, C]` shared by the batch.

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
            boxes = boxes.detach()  # each stage learns its own step, not the steps before it
            if self.feature_reuse:
                features = objects
        return Predictions(torch.stack(all_logits), torch.stack(all_boxes))
