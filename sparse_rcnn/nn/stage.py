"""One stage of the iterative head (paper, section 3.2 and figure 3).

proposals -> self-attention -> interaction with the RoI -> feed-forward -> class logits, new boxes
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sparse_rcnn.nn.box_head import BoxHead
from sparse_rcnn.nn.dynamic_interaction import DynamicInteraction
from sparse_rcnn.ops.deltas import apply_deltas
from sparse_rcnn.ops.pyramid import Pyramid
from sparse_rcnn.ops.roi_align import pyramid_roi_align

__all__ = ["INTERACTIONS", "Stage", "tower"]

INTERACTIONS = ("dynamic", "fully_connected")


def tower(hidden_dim: int, num_layers: int) -> nn.Sequential:
    """`num_layers` times: linear layer (no bias), layer norm and ReLU."""
    layers: list[nn.Module] = []
    for _ in range(num_layers):
        layers += [nn.Linear(hidden_dim, hidden_dim, bias=False), nn.LayerNorm(hidden_dim), nn.ReLU()]
    return nn.Sequential(*layers)


class Stage(nn.Module):
    """Self-attention, dynamic interaction, feed-forward and the two predictors.

    The defaults are Sparse R-CNN. The last arguments are for the paper's ablations.

    Args:
        num_classes: K.
        hidden_dim: Channels, C.
        dynamic_dim: Inner channels of the interaction, D.
        feedforward_dim: Inner channels of the feed-forward network. 0: no such network.
        num_heads: Heads of the self-attention.
        pool_size: Side of the pooled RoI, P.
        sampling_ratio: RoIAlign samples per bin and side.
        interaction: "dynamic", or "fully_connected" for `BoxHead` on the RoI.
        self_attention: Proposals attend to each other before the interaction.
        feature_reuse: The box head uses the proposal's feature. The dynamic interaction always does.
        fully_connected_dim: Inner channels of the box head.
        classification_layers: Layers of the tower before the class logits.
        regression_layers: Layers of the tower before the box deltas.

    Raises:
        ValueError: If `interaction` is unknown, or no layer uses the result of self-attention.

    Example:
        >>> from sparse_rcnn.ops import flatten_pyramid
        >>> stage = Stage(num_classes=3, hidden_dim=8)
        >>> pyramid, boxes = flatten_pyramid([torch.zeros(1, 8, 16, 16)]), torch.tensor([[[0.0, 0, 64, 64]]])
        >>> logits, boxes, objects = stage(pyramid, boxes, torch.zeros(1, 1, 8))
        >>> logits.shape
        torch.Size([1, 1, 3])
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
        interaction: str = "dynamic",
        self_attention: bool = True,
        feature_reuse: bool = True,
        fully_connected_dim: int = 1024,
        classification_layers: int = 1,
        regression_layers: int = 3,
    ) -> None:
        super().__init__()
        if interaction not in INTERACTIONS:
            raise ValueError(f"interaction must be one of {INTERACTIONS}, got {interaction!r}")
        if self_attention and interaction == "fully_connected" and not feature_reuse:
            raise ValueError(
                "self_attention has no effect without feature_reuse if interaction is 'fully_connected': "
                "the box head then uses the RoI alone"
            )
        self.pool_size = pool_size
        self.sampling_ratio = sampling_ratio
        # A missing part is None, so TorchScript leaves out the code that would use it.
        self.attention = (
            nn.MultiheadAttention(hidden_dim, num_heads, batch_first=True) if self_attention else None
        )
        if self_attention:
            self.attention_norm = nn.LayerNorm(hidden_dim)
        if interaction == "dynamic":
            self.interaction: nn.Module = DynamicInteraction(hidden_dim, dynamic_dim, pool_size)
        else:
            self.interaction = BoxHead(hidden_dim, fully_connected_dim, pool_size, feature_reuse)
        self.interaction_norm = nn.LayerNorm(hidden_dim) if interaction == "dynamic" else None
        self.feedforward1 = nn.Linear(hidden_dim, feedforward_dim) if feedforward_dim > 0 else None
        if feedforward_dim > 0:
            self.feedforward2 = nn.Linear(feedforward_dim, hidden_dim)
            self.feedforward_norm = nn.LayerNorm(hidden_dim)
        self.classification_tower = tower(hidden_dim, classification_layers)
        self.regression_tower = tower(hidden_dim, regression_layers)
        self.class_logits = nn.Linear(hidden_dim, num_classes)
        self.box_deltas = nn.Linear(hidden_dim, 4)

    def forward(self, pyramid: Pyramid, boxes: Tensor, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Refines proposals once.

        Args:
            pyramid: The feature pyramid of the batch, from `flatten_pyramid`.
            boxes: `[B, N, 4]` xyxy in pixels of the padded batch.
            features: `[B, N, C]`, or `[1, N, C]` shared by the batch.

        Returns:
            Logits `[B, N, K]`, refined boxes `[B, N, 4]`, and object features `[B, N, C]` for the next stage.
        """
        if self.attention is not None:
            features = self.attend(features)
        roi_features = pyramid_roi_align(
            pyramid, boxes, self.pool_size, self.sampling_ratio
        )  # [B, N, P*P, C]
        if features.dtype == torch.bfloat16 or features.dtype == torch.float16:
            roi_features = roi_features.to(features.dtype)  # they are float32 if the pyramid needs gradients
        objects = self.interaction(features, roi_features)  # [B, N, C]
        if self.interaction_norm is not None:
            objects = self.interaction_norm(features + objects)
        if self.feedforward1 is not None:
            inner = F.relu(self.feedforward1(objects))
            objects = self.feedforward_norm(objects + self.feedforward2(inner))
        logits = self.class_logits(self.classification_tower(objects))  # [B, N, K]
        deltas = self.box_deltas(self.regression_tower(objects))  # [B, N, 4]
        return logits, apply_deltas(deltas, boxes), objects

    def attend(self, features: Tensor) -> Tensor:
        """Self-attention among the proposals, residual and norm.

        Args:
            features: `[B, N, C]`, or `[1, N, C]` shared by the batch.

        Returns:
            The same shape.
        """
        assert self.attention is not None
        attended = self.attention(features, features, features, need_weights=False)[0]
        return self.attention_norm(features + attended)
