"""The model with its loss: images and targets in, losses out. This is compiled and distributed."""

from collections.abc import Iterable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from sparse_rcnn.data import Batch
from sparse_rcnn.loss import LossWeights, SetLoss, dense_prediction_loss, match_proposals, set_prediction_loss
from sparse_rcnn.nn import DenseProposals, SparseRCNN
from sparse_rcnn.nn.head import Predictions
from sparse_rcnn.ops.iou import paired_iou

# The loss by --class-targets. 0.05 is the least IoU of the dense loss, too.
LOSSES = {"one": LossWeights(), "iou": LossWeights(least_quality=0.05)}


class StepOutput(NamedTuple):
    """The losses of a batch, and its predictions without gradient."""

    losses: SetLoss
    predictions: Predictions


class TrainingStep(nn.Module):
    """The model and its loss."""

    weights: LossWeights

    def __init__(self, model: SparseRCNN, weights: LossWeights | None = None) -> None:
        super().__init__()
        self.model = model
        self.weights = weights or LossWeights()
        self.is_dense = isinstance(model.proposals, DenseProposals)

    def forward(
        self,
        images: Tensor,
        image_sizes: Tensor,
        boxes: Tensor,
        labels: Tensor,
        valid: Tensor,
        num_targets: Tensor,
    ) -> StepOutput:
        """The losses of a batch from `collate`. Matching and losses are always in float32."""
        if self.is_dense:
            (logits, refined), dense = self.model.forward_dense(images, image_sizes)
            of_proposals = dense_prediction_loss(
                dense.logits, dense.boxes, dense.points, boxes, labels, valid, num_targets
            ).total
        else:
            logits, refined = self.model(images, image_sizes)
            of_proposals = torch.zeros_like(num_targets, dtype=torch.float32)
        losses = set_prediction_loss(
            logits, refined, boxes, labels, valid, image_sizes, num_targets, self.weights
        )
        total = losses.total + of_proposals
        losses = SetLoss(total, losses.classification, losses.l1, losses.giou)
        return StepOutput(losses, Predictions(logits.detach(), refined.detach()))


def leave_open(images: Tensor, boxes: Tensor, labels: Tensor, valid: Tensor) -> None:
    """Marks the sizes that differ between batches, so that the compiler compiles once for all sizes."""
    for tensor, dimensions in ((images, (2, 3)), (boxes, (1,)), (labels, (1,)), (valid, (1,))):
        for dimension in dimensions:
            torch._dynamo.maybe_mark_dynamic(tensor, dimension)


def compile_step(step: TrainingStep, backend: str = "inductor") -> None:
    """Compiles in place, so that the keys of checkpoints stay the same. The model must be channels-last.

    The option is for Inductor. Without it, the strides in the backward pass of a convolution are constants,
    and every size of images is compiled again.
    """
    options: dict[str, Any] | None = {"force_layout_optimization": True} if backend == "inductor" else None
    step.compile(fullgraph=True, backend=backend, options=options)


def recompute_head(model: SparseRCNN) -> None:
    """Keeps only the inputs of each stage of the head. The backward pass computes the rest again."""
    _recompute(model.head.get_submodule("stages").children())


def recompute_backbone(model: SparseRCNN) -> None:
    """The same for the backbone: keeps only the inputs of residual stages, or of MobileNetV2's blocks.

    Raises:
        ValueError: If a batch norm would count the images twice.
    """
    trunk: Any = model.backbone.get_submodule("trunk")
    if any(isinstance(module, nn.BatchNorm2d) for module in trunk.modules()):
        raise ValueError("--recompute-backbone: batch norms of the backbone would count images twice")
    _recompute(trunk.blocks())


def _recompute(modules: Iterable[nn.Module]) -> None:
    for module in modules:
        module.forward = partial(checkpoint, module.forward, use_reentrant=False, preserve_rng_state=False)


def loss_vector(losses: SetLoss) -> Tensor:
    """All losses, `[1 + 3 L]`: the total, then classification, L1 and GIoU of each stage."""
    return torch.cat([losses.total[None], losses.classification, losses.l1, losses.giou]).detach()


def matched_iou(predictions: Predictions, batch: Batch, weights: LossWeights | None = None) -> Tensor:
    """The sum of the IoU of each stage's matches, and the number of targets: `[L + 1]`.

    The matches are those of the loss if `weights` are `TrainingStep.weights`.
    """
    boxes, labels, valid = batch.targets
    with torch.no_grad():
        indices = match_proposals(
            *predictions, boxes, labels, valid, batch.image_sizes, weights or LossWeights()
        )  # [L, B, M]
        chosen = indices.clamp(min=0)[..., None].expand(-1, -1, -1, 4)
        found = predictions.boxes.float().gather(2, chosen)  # [L, B, M, 4]
        iou = paired_iou(found, boxes.expand_as(found)) * (indices >= 0)
    return torch.cat([iou.sum(dim=(1, 2)), valid.sum().float()[None]])
