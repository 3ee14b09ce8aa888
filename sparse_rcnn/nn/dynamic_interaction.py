"""The module that owns the parameters of :func:`sparse_rcnn.ops.dynamic_interaction`."""

from torch import Tensor, nn

from sparse_rcnn.ops.interaction import dynamic_interaction


class DynamicInteraction(nn.Module):
    """Dynamic instance interaction (paper, section 3.2 and figure 4).

    Args:
        hidden_dim: channels of proposals and RoI features, C.
        dynamic_dim: inner channels, D.
        pool_size: side of the pooled RoI, S.
    """

    def __init__(self, hidden_dim: int = 256, dynamic_dim: int = 64, pool_size: int = 7) -> None:
        super().__init__()
        self.generator = nn.Linear(hidden_dim, 2 * hidden_dim * dynamic_dim)
        self.norm1 = nn.LayerNorm(dynamic_dim)
        self.norm2 = nn.LayerNorm(hidden_dim)
        self.out = nn.Linear(hidden_dim * pool_size**2, hidden_dim)
        self.norm3 = nn.LayerNorm(hidden_dim)

    def forward(self, pro_feats: Tensor, roi_feats: Tensor) -> Tensor:
        """Filters each RoI with its proposal's kernels.

        Args:
            pro_feats: ``[..., N, C]``.
            roi_feats: ``[..., N, S*S, C]``.

        Returns:
            ``[..., N, C]`` object features.
        """
        return dynamic_interaction(
            pro_feats,
            roi_feats,
            self.generator.weight,
            self.generator.bias,
            self.norm1.weight,
            self.norm1.bias,
            self.norm2.weight,
            self.norm2.bias,
            self.out.weight,
            self.out.bias,
            self.norm3.weight,
            self.norm3.bias,
            self.norm1.eps,
        )
