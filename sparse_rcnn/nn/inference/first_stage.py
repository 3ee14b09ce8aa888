"""Computes a part of the first stage once, for inference (paper, section 3.2).

In the first stage, self-attention and the generated kernels depend on the learned proposals alone. They are
the same for every image.
"""

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sparse_rcnn.nn.dense_proposals import DenseProposals
from sparse_rcnn.nn.detector import SparseRCNN
from sparse_rcnn.nn.dynamic_interaction import DynamicInteraction
from sparse_rcnn.nn.head import Head
from sparse_rcnn.nn.proposals import Proposals
from sparse_rcnn.nn.stage import Stage

__all__ = ["FixedInteraction", "fold_first_stage"]


class FixedInteraction(nn.Module):
    """A dynamic interaction with fixed kernels instead of a generator.

    Args:
        interaction: The dynamic interaction. Its other parameters are shared, not copied.
        pro_feats: `[N, C]` features of the proposals, the same for every image.
    """

    kernel1: Tensor
    kernel2: Tensor

    def __init__(self, interaction: DynamicInteraction, pro_feats: Tensor) -> None:
        super().__init__()
        kernel1, kernel2 = interaction.kernels(pro_feats)
        # They have three dimensions, so a conversion to channels-last does not change them.
        self.register_buffer("kernel1", kernel1.contiguous())  # [N, C, D]
        self.register_buffer("kernel2", kernel2.contiguous())  # [N, D, C]
        self.norm1, self.norm2, self.norm3 = interaction.norm1, interaction.norm2, interaction.norm3
        self.out = interaction.out

    def forward(self, pro_feats: Tensor, roi_feats: Tensor) -> Tensor:
        """Filters each RoI with its proposal's kernels.

        Args:
            pro_feats: Not used. `DynamicInteraction` has the same argument.
            roi_feats: `[..., N, P*P, C]`.

        Returns:
            `[..., N, C]` object features.
        """
        x = F.relu(self.norm1(torch.matmul(roi_feats, self.kernel1)))
        x = F.relu(self.norm2(torch.matmul(x, self.kernel2)))
        return F.relu(self.norm3(self.out(x.flatten(-2))))


def fold_first_stage(model: SparseRCNN) -> SparseRCNN:
    """Copies a detector and replaces a part of its first stage by constants, for faster inference.

    The proposal features become those after the first self-attention. The kernels of the first dynamic
    interaction become constants: `N * 2 * C * D` numbers instead of the `C * 2 * C * D` of the generator. The
    results stay the same. Under autocast they are more precise, since the constants are in full precision.

    Two kinds of detectors are copied without a change: those whose stages do not reuse features (paper,
    Table 4), since every stage reads the proposal features, and those with dense proposals.

    Args:
        model: The detector in evaluation mode, built of `Proposals`, `Head` and `Stage`.

    Returns:
        The copy. Its state dict has other entries than the model's: keep the model to save or train it.

    Raises:
        ValueError: If the model is in training mode, or built of other modules.

    Example:
        >>> from sparse_rcnn import build_sparse_rcnn
        >>> model = build_sparse_rcnn("resnet10", num_proposals=5, num_stages=1, backbone_weights=None)
        >>> type(fold_first_stage(model.eval()).head.stages[0].interaction).__name__
        'FixedInteraction'
    """
    if model.training:
        raise ValueError("fold_first_stage needs a model in evaluation mode: call model.eval() first")
    folded = copy.deepcopy(model)
    proposals, head = folded.proposals, folded.head
    if isinstance(proposals, DenseProposals):
        return folded  # its features depend on the image
    if not isinstance(proposals, Proposals) or not isinstance(head, Head):
        raise ValueError("fold_first_stage needs a model of Proposals and Head")
    stage = head.stages[0]
    if type(stage) is not Stage or any(other is stage for other in head.stages[1:]):
        raise ValueError("fold_first_stage needs a head whose first stage is a Stage of its own")
    if not head.feature_reuse:
        return folded
    device = proposals.features.device.type
    with torch.no_grad(), torch.autocast("cpu" if device == "meta" else device, enabled=False):
        features = proposals.features[None]  # [1, N, C]
        if stage.attention is not None:
            features = stage.attend(features)
            stage.attention = None
            del stage.attention_norm
        if isinstance(stage.interaction, DynamicInteraction):
            stage.interaction = FixedInteraction(stage.interaction, features[0])
    proposals.features = nn.Parameter(features[0], requires_grad=False)
    return folded
