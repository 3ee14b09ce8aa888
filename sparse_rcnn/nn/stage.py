"""One stage of the iterative head (paper, section 3.2 and figure 3).

proposals -> self-attention -> interaction with the RoI -> feed-forward -> class logits, new boxes
"""

import torch.nn.functional as F
from torch import Tensor, nn

from sparse_rcnn.nn.interaction import DynamicInteraction
from sparse_rcnn.ops.deltas import apply_deltas
from sparse_rcnn.ops.roi_align import Pyramid, pyramid_roi_align


def tower(hidden_dim: int, num_layers: int) -> nn.Sequential:
    """``num_layers`` of linear (no bias), layer norm and ReLU."""
    layers: list[nn.Module] = []
    for _ in range(num_layers):
        layers += [nn.Linear(hidden_dim, hidden_dim, bias=False), nn.LayerNorm(hidden_dim), nn.ReLU()]
    return nn.Sequential(*layers)


class Stage(nn.Module):
    """Self-attention, dynamic interaction, feed-forward and the two predictors.

    Args:
        num_classes: K.
        hidden_dim: channels, C.
        dynamic_dim: inner channels of the interaction, D.
        feedforward_dim: inner channels of the feed-forward network.
        num_heads: of the self-attention.
        pool_size: side of the pooled RoI, P.
        sampling_ratio: RoIAlign samples per bin and side.
    """

    def __init__(
        self,
        num_classes: int,
        hidden_dim: int = 256,
        dynamic_dim: int = 64,
        feedforward_dim: int = 2048,
        num_heads: int = 8,
        pool_size: int = 7,
        sampling_ratio: int = 2,
    ) -> None:
        super().__init__()
        self.pool_size = pool_size
        self.sampling_ratio = sampling_ratio
        self.attention = nn.MultiheadAttention(hidden_dim, num_heads, batch_first=True)
        self.attention_norm = nn.LayerNorm(hidden_dim)
        self.interaction = DynamicInteraction(hidden_dim, dynamic_dim, pool_size)
        self.interaction_norm = nn.LayerNorm(hidden_dim)
        self.feedforward1 = nn.Linear(hidden_dim, feedforward_dim)
        self.feedforward2 = nn.Linear(feedforward_dim, hidden_dim)
        self.feedforward_norm = nn.LayerNorm(hidden_dim)
        self.classification_tower = tower(hidden_dim, 1)
        self.regression_tower = tower(hidden_dim, 3)
        self.class_logits = nn.Linear(hidden_dim, num_classes)
        self.box_deltas = nn.Linear(hidden_dim, 4)

    def forward(self, pyramid: Pyramid, boxes: Tensor, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Refines proposals once.

        Args:
            pyramid: flattened feature pyramid of the batch.
            boxes: ``[B, N, 4]`` xyxy in pixels of the padded batch.
            features: ``[B, N, C]``, or ``[1, N, C]`` shared by the batch.

        Returns:
            logits ``[B, N, K]``, refined boxes ``[B, N, 4]``, and object features ``[B, N, C]`` for the
            next stage.
        """
        attended = self.attention(features, features, features, need_weights=False)[0]
        features = self.attention_norm(features + attended)
        roi_features = pyramid_roi_align(
            pyramid, boxes, self.pool_size, self.sampling_ratio
        )  # [B, N, P*P, C]
        features = self.interaction_norm(features + self.interaction(features, roi_features))  # [B, N, C]
        inner = F.relu(self.feedforward1(features))
        features = self.feedforward_norm(features + self.feedforward2(inner))
        logits = self.class_logits(self.classification_tower(features))  # [B, N, K]
        deltas = self.box_deltas(self.regression_tower(features))  # [B, N, 4]
        return logits, apply_deltas(deltas, boxes), features
