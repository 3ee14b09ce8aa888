"""Faster R-CNN's box head. A stage can have it instead of the dynamic interaction (paper, Tables 3 to 5)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["BoxHead"]


class BoxHead(nn.Module):
    """Two fully connected layers on the flattened RoI (Lin et al. 2017, FPN, section 4.2).

    Args:
        hidden_dim: Channels of proposals and RoI features, C.
        fully_connected_dim: Width of the first layer, 1024 in Faster R-CNN.
        pool_size: Side of the pooled RoI, P.
        feature_reuse: The second layer gets the proposal's feature, too. This is the object feature of the
            previous stage (Table 4).

    Example:
        >>> box_head = BoxHead(hidden_dim=8, fully_connected_dim=16)
        >>> box_head(torch.zeros(1, 5, 8), torch.zeros(2, 5, 49, 8)).shape
        torch.Size([2, 5, 8])
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
            pro_feats: `[B, N, C]`, or `[1, N, C]` shared by the batch. Used only if features are reused.
            roi_feats: `[B, N, P*P, C]`.

        Returns:
            `[B, N, C]` object features.
        """
        x = F.relu(self.fc1(roi_feats.flatten(-2)))
        if self.feature_reuse:
            x = torch.cat((x, pro_feats.expand(x.shape[0], -1, -1)), dim=-1)
        return F.relu(self.fc2(x))
