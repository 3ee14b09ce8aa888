"""The module with the parameters of `sparse_rcnn.ops.dynamic_interaction`."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sparse_rcnn.nn.layer_norm import LayerNorm

__all__ = ["DynamicInteraction"]


class DynamicInteraction(nn.Module):
    """Dynamic instance interaction (paper, section 3.2 and figure 4).

    The arithmetic is that of `sparse_rcnn.ops.dynamic_interaction`. It calls layers, so hooks on them run,
    and other modules (adapters, quantised layers) can replace them.

    Args:
        hidden_dim: Channels of proposals and RoI features, C.
        dynamic_dim: Inner channels, D.
        pool_size: Side of the pooled RoI, P.

    Example:
        >>> interaction = DynamicInteraction(hidden_dim=8, dynamic_dim=4)
        >>> interaction(torch.zeros(2, 5, 8), torch.zeros(2, 5, 49, 8)).shape
        torch.Size([2, 5, 8])
    """

    def __init__(self, hidden_dim: int = 256, dynamic_dim: int = 64, pool_size: int = 7) -> None:
        super().__init__()
        self.hidden_dim = hidden_dim
        self.dynamic_dim = dynamic_dim
        self.generator = nn.Linear(hidden_dim, 2 * hidden_dim * dynamic_dim)
        self.norm1 = LayerNorm(dynamic_dim)
        self.norm2 = LayerNorm(hidden_dim)
        self.out = nn.Linear(hidden_dim * pool_size**2, hidden_dim)
        self.norm3 = nn.LayerNorm(hidden_dim)

    def forward(self, pro_feats: Tensor, roi_feats: Tensor) -> Tensor:
        """Filters each RoI with its proposal's kernels.

        Args:
            pro_feats: `[..., N, C]`.
            roi_feats: `[..., N, P*P, C]`.

        Returns:
            `[..., N, C]` object features.
        """
        kernel1, kernel2 = self.kernels(pro_feats)
        x = F.relu(self.norm1(torch.matmul(roi_feats, kernel1)))  # [..., N, P*P, D]
        x = F.relu(self.norm2(torch.matmul(x, kernel2)))  # [..., N, P*P, C]
        return F.relu(self.norm3(self.out(x.flatten(-2))))

    def kernels(self, pro_feats: Tensor) -> tuple[Tensor, Tensor]:
        """The two kernels of each proposal.

        Args:
            pro_feats: `[..., N, C]`.

        Returns:
            `[..., N, C, D]` and `[..., N, D, C]`: the weights of two 1x1 convolutions.
        """
        half = self.hidden_dim * self.dynamic_dim
        first, second = self.generator(pro_feats).split(half, dim=-1)
        return (
            first.unflatten(-1, (self.hidden_dim, self.dynamic_dim)),
            second.unflatten(-1, (self.dynamic_dim, self.hidden_dim)),
        )
