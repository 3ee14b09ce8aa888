"""Proposals from the image: distinct peaks of a dense head (after Zhang et al. 2023, DDQ, R-CNN form).

Every position of the pyramid predicts classes and a box. A position whose score is the largest of its 3 × 3
neighbours is a peak. The N best peaks give the proposals their boxes and features. There is no NMS, and every
shape is static.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sparse_rcnn.nn.position_grid import boxes_around, cell_centers, score_peaks
from sparse_rcnn.ops.boxes import at_least_float32, clip_boxes

__all__ = ["FOCAL_PRIOR", "TOWER_WIDTH", "DensePredictions", "DenseProposals", "tower"]

FOCAL_PRIOR = 0.01  # probability of every class at the start
TOWER_WIDTH = 96  # limit of the channels: the head then costs less than the stages that it replaces


class DensePredictions(NamedTuple):
    """The predictions of every position of the pyramid.

    Attributes:
        logits: `[B, P, K]` before the sigmoid.
        boxes: `[B, P, 4]` xyxy in pixels of the padded batch, not clipped, at least float32.
        points: `[P, 2]` (x, y) in pixels, the centre of each position.
        features: `[B, P, 2 W]`, those of both towers.
        peaks: `[B, P]` bool, whether the best score is the largest of its 3 × 3 neighbours.

    Example:
        >>> proposals = DenseProposals(num_proposals=5, hidden_dim=8, num_classes=3, levels=(0,))
        >>> proposals.predict([torch.zeros(1, 8, 16, 16)]).logits.shape
        torch.Size([1, 256, 3])
    """

    logits: Tensor
    boxes: Tensor
    points: Tensor
    features: Tensor
    peaks: Tensor


class DenseProposals(nn.Module):
    """A dense head on the pyramid, and the choice of its best distinct positions as proposals.

    Args:
        num_proposals: Number of proposals, N.
        hidden_dim: Channels of pyramid and features, C.
        num_classes: Number of classes, K.
        levels: Indices of the pyramid's levels that it reads. Level i has a stride of `4 * 2**i` pixels.
        layers: Layers of the tower of classes, and of that of boxes. A layer is a 3 × 3 convolution to W
            channels, a group norm and a ReLU. W is C, but at most 96.

    Raises:
        ValueError: If a number is too small.

    Example:
        >>> proposals = DenseProposals(num_proposals=5, hidden_dim=8, num_classes=3, levels=(0,))
        >>> boxes, features = proposals(torch.tensor([[64, 64]]), [torch.zeros(1, 8, 16, 16)])
        >>> boxes.shape
        torch.Size([1, 5, 4])
    """

    def __init__(
        self,
        num_proposals: int,
        hidden_dim: int,
        num_classes: int,
        levels: tuple[int, ...] = (1, 2, 3),
        layers: int = 2,
    ) -> None:
        super().__init__()
        for name, number in (("num_proposals", num_proposals), ("levels", len(levels)), ("layers", layers)):
            if number < 1:
                raise ValueError(f"{name} must be at least 1, got {number}")
        self.num_proposals = num_proposals
        self.levels = list(levels)
        width = min(hidden_dim, TOWER_WIDTH)
        self.class_tower = tower(hidden_dim, width, layers)
        self.box_tower = tower(hidden_dim, width, layers)
        self.class_logits = nn.Conv2d(width, num_classes, 3, padding=1)
        self.box_sides = nn.Conv2d(width, 4, 3, padding=1)
        self.project = nn.Linear(2 * width, hidden_dim)
        self.norm = nn.LayerNorm(hidden_dim)
        for layer, bias in (
            (self.class_logits, -math.log((1 - FOCAL_PRIOR) / FOCAL_PRIOR)),
            (self.box_sides, 0.0),
        ):
            nn.init.normal_(layer.weight, std=0.01)
            assert layer.bias is not None
            nn.init.constant_(layer.bias, bias)

    def forward(self, image_sizes: Tensor, levels: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Proposals of a batch.

        Args:
            image_sizes: `[B, 2]` (height, width) in pixels.
            levels: The feature pyramid. The first level is `[B, C, H/4, W/4]`.

        Returns:
            Boxes `[B, N, 4]` xyxy in pixels, clipped to the image, and features `[B, N, C]`.
        """
        return self.choose(self.predict(levels), image_sizes)

    def predict(self, levels: list[Tensor]) -> DensePredictions:
        """Classes and boxes of every position, for the loss and for `choose`.

        Args:
            levels: As in `forward`.

        Returns:
            The predictions of all levels that are read, one after the other.
        """
        logits: list[Tensor] = []
        boxes: list[Tensor] = []
        points: list[Tensor] = []
        features: list[Tensor] = []
        peaks: list[Tensor] = []
        for level in self.levels:
            stride = 4.0 * 2.0**level
            of_class, of_box = self.class_tower(levels[level]), self.box_tower(levels[level])  # [B, W, h, w]
            classes = self.class_logits(of_class)  # [B, K, h, w]
            sides = at_least_float32(self.box_sides(of_box)).flatten(2).transpose(1, 2)  # [B, h*w, 4]
            point = cell_centers(classes.shape[2], classes.shape[3], stride, sides)  # [h*w, 2]
            logits.append(classes.flatten(2).transpose(1, 2))
            boxes.append(boxes_around(point, sides, stride))
            points.append(point)
            features.append(torch.cat((of_class, of_box), dim=1).flatten(2).transpose(1, 2))
            peaks.append(score_peaks(classes.detach().amax(dim=1)).flatten(1))
        return DensePredictions(
            torch.cat(logits, dim=1),
            torch.cat(boxes, dim=1),
            torch.cat(points),
            torch.cat(features, dim=1),
            torch.cat(peaks, dim=1),
        )

    def choose(self, dense: DensePredictions, image_sizes: Tensor) -> tuple[Tensor, Tensor]:
        """Takes the N best peaks as proposals.

        If there are fewer peaks than N, other positions follow, the least likely first: likely ones are
        beside a peak and would find the same object twice. Positions in the padding come next. If there are
        fewer positions than N, boxes of the whole image without a feature come last.

        Args:
            dense: The result of `predict`.
            image_sizes: `[B, 2]` (height, width) in pixels.

        Returns:
            As in `forward`. Gradients flow through the features, not through the boxes.
        """
        number = self.num_proposals
        width_height = image_sizes.flip(1)[:, None, :]  # [B, 1, 2]
        inside = (dense.points < width_height).all(dim=2)  # [B, P]
        scores = at_least_float32(dense.logits.detach()).amax(dim=2).sigmoid()
        rank = torch.where(dense.peaks, scores, -scores)  # [B, P], -1..1
        rank = torch.where(inside, rank, rank - 2)
        rank = F.pad(rank, (0, number), value=-4.0)  # there are always N of them
        top = rank.topk(number, dim=1).indices[:, :, None]  # [B, N, 1]
        whole = torch.cat((torch.zeros_like(width_height), width_height), dim=2).to(dense.boxes)  # [B, 1, 4]
        boxes = torch.cat((dense.boxes.detach(), whole.expand(-1, number, -1)), dim=1)
        features = F.pad(dense.features, (0, 0, 0, number))
        boxes = boxes.gather(1, top.expand(-1, -1, 4))
        features = features.gather(1, top.expand(-1, -1, features.shape[2]))
        return clip_boxes(boxes, image_sizes), self.norm(self.project(features))


def tower(channels: int, width: int, layers: int) -> nn.Sequential:
    """Builds the convolutions for the levels of the pyramid.

    Args:
        channels: Channels of its input.
        width: Channels of its output.
        layers: Number of layers.

    Returns:
        The module.
    """
    parts: list[nn.Module] = []
    for index in range(layers):
        parts += [
            nn.Conv2d(width if index else channels, width, 3, padding=1, bias=False),
            nn.GroupNorm(math.gcd(width, 8), width),
            nn.ReLU(),
        ]
    return nn.Sequential(*parts)
