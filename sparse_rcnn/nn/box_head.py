"""Faster R-CNN's box head: what a stage has in place of the dynamic interaction (paper, Tables 3 to 5)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["BoxHead"]


class BoxHead(nn.Module):
    """Two fully connected layers on the flattened RoI (Lin et al. 2017, FPN, section 4.2).

    Args:
        hidden_dim: channels of proposals and RoI features, C.
        fully_connected_dim: width of the first layer; 1024 in Faster R-CNN.
        pool_size: side of the pooled RoI, S.
        feature_reuse: the second layer sees the proposal's feature, too: the object feature of the stage
            before (Table 4).
    """

    def __init__(
        self,
        hidden_dim: int = 256,
        fully_connected_dim: int = 1024,
        pool_size: int = 7,
        feature_reuse: bool = True,
    ) -> None:
        super().__init__()
        self.feature_reuse = feature_reuse
        reused = hidden_dim if feature_reuse else 0
        self.fc1 = nn.Linear(hidden_dim * pool_size**2, fully_connected_dim)
        self.fc2 = nn.Linear(fully_connected_dim + reused, hidden_dim)

    def forward(self, pro_feats: Tensor, roi_feats: Tensor) -> Tensor:
        """Object features of each RoI.

        Args:
            pro_feats: `[B, N, C]`, or `[1, N, C]` shared by the batch; read if features are reused.
            roi_feats: `[B, N, S*S, C]`.

        Returns:
            `[B, N, C]` object features.
        """
        x = F.relu(self.fc1(roi_feats.flatten(-2)))
        if self.feature_reuse:
            x = torch.cat((x, pro_feats.expand(x.shape[0], -1, -1)), dim=-1)
        return F.relu(self.fc2(x))
