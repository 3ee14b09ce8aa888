"""Learned proposals: N boxes and N features, the same for every image (paper, section 3.1; Table 6)."""

import math

import torch
from torch import Tensor, nn

from sparse_rcnn.ops.boxes import cxcywh_to_xyxy, whwh

__all__ = ["PROPOSAL_INITS", "Proposals", "initial_boxes"]

PROPOSAL_INITS = ("image", "center", "grid", "random")


def initial_boxes(init: str, num_proposals: int) -> Tensor:
    """Initial proposal boxes (paper, Table 6).

    Args:
        init: "image": every box is the whole image, as in the paper. "center": every box lies in the middle
            and has a tenth of the image's sides. "grid": a regular grid without overlap. "random": Gaussian
            centers and sizes.
        num_proposals: The number of boxes, N.

    Returns:
        `[N, 4]` cxcywh, divided by the image size.

    Raises:
        ValueError: If `init` is unknown.
    """
    if init == "image":
        return torch.tensor([0.5, 0.5, 1.0, 1.0]).expand(num_proposals, 4).contiguous()
    if init == "center":
        return torch.tensor([0.5, 0.5, 0.1, 0.1]).expand(num_proposals, 4).contiguous()
    if init == "grid":
        columns = math.ceil(math.sqrt(num_proposals))
        rows = math.ceil(num_proposals / columns)
        cell = torch.arange(num_proposals)
        cx = (cell % columns + 0.5) / columns
        cy = (cell // columns + 0.5) / rows
        width, height = torch.full_like(cx, 1 / columns), torch.full_like(cy, 1 / rows)
        return torch.stack((cx, cy, width, height), dim=1)
    if init == "random":
        # The paper gives no parameters: three sigma cover the image, and no box is empty.
        center = (0.5 + torch.randn(num_proposals, 2) / 6).clamp(0.0, 1.0)
        size = (0.5 + torch.randn(num_proposals, 2) / 6).clamp(0.05, 1.0)
        return torch.cat((center, size), dim=1)
    raise ValueError(f"proposal_init must be one of {PROPOSAL_INITS}, got {init!r}")


class Proposals(nn.Module):
    """Learned boxes and features.

    Args:
        num_proposals: N, at least 1.
        hidden_dim: Channels of the features, C. 0 for boxes without features.
        init: A name for `initial_boxes`: "image", "center", "grid" or "random".

    Raises:
        ValueError: If there are no proposals or `init` is unknown.

    Example:
        >>> boxes, features = Proposals(num_proposals=5, hidden_dim=8)(torch.tensor([[480, 640]]))
        >>> boxes[0, 0]
        tensor([  0.,   0., 640., 480.], grad_fn=<SelectBackward0>)
    """

    def __init__(self, num_proposals: int, hidden_dim: int, init: str = "image") -> None:
        super().__init__()
        if num_proposals < 1:
            raise ValueError(f"num_proposals must be at least 1, got {num_proposals}")
        self.boxes_norm_cxcywh = nn.Parameter(initial_boxes(init, num_proposals))
        features = nn.init.normal_(torch.empty(num_proposals, hidden_dim))
        self.features = nn.Parameter(features, requires_grad=hidden_dim > 0)

    def forward(self, image_sizes: Tensor, levels: list[Tensor] | None = None) -> tuple[Tensor, Tensor]:
        """Proposals of a batch.

        Args:
            image_sizes: `[B, 2]` (height, width) in pixels.
            levels: Not used. `DenseProposals` has the same argument.

        Returns:
            Boxes `[B, N, 4]` xyxy in pixels, and features `[1, N, C]`. The features are the same for all
            images, so self-attention and kernels of the first stage are computed once per batch.
        """
        boxes = cxcywh_to_xyxy(self.boxes_norm_cxcywh) * whwh(image_sizes)[:, None, :]  # [B, N, 4]
        return boxes, self.features[None]
