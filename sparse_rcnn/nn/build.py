"""The one place where the paper's numbers stand: Sparse R-CNN with a ResNet-50 and 100 proposals."""

import math

from torch import nn

from sparse_rcnn.nn.backbones.backbone import Backbone
from sparse_rcnn.nn.backbones.pretrained import load_backbone_weights
from sparse_rcnn.nn.dense_proposals import DenseProposals
from sparse_rcnn.nn.detector import SparseRCNN
from sparse_rcnn.nn.head import Head
from sparse_rcnn.nn.proposals import Proposals
from sparse_rcnn.nn.stage import Stage

# Probability of every class at the start (Lin et al. 2017, Focal Loss, section 4.1).
FOCAL_PRIOR = 0.01
PROPOSALS = ("learned", "dense")


def build_sparse_rcnn(
    backbone: str = "resnet50",
    *,
    num_classes: int = 80,
    num_proposals: int = 100,
    num_stages: int = 6,
    hidden_dim: int = 256,
    dynamic_dim: int = 64,
    feedforward_dim: int = 2048,
    num_heads: int = 8,
    pool_size: int = 7,
    proposals: str = "learned",
    proposal_init: str = "image",
    interaction: str = "dynamic",
    self_attention: bool = True,
    feature_reuse: bool = True,
    fully_connected_dim: int = 1024,
    classification_layers: int = 1,
    regression_layers: int = 3,
    positional_encoding: bool = False,
    backbone_norm: str = "frozen",
    backbone_weights: str | None = "imagenet",
) -> SparseRCNN:
    """Builds a detector; the defaults are the paper's (section 4, implementation details).

    Args:
        backbone: "resnet10" (no published weights), "resnet18", "resnet34", "resnet50", "resnet101" or
            "mobilenet_v2".
        num_classes: K; labels are 0..K-1, there is no background class.
        num_proposals: N.
        num_stages: L.
        hidden_dim: channels of pyramid and proposals, C.
        dynamic_dim: inner channels of the dynamic interaction, D.
        feedforward_dim: inner channels of the feed-forward network; 0 for a head without.
        num_heads: of the self-attention; must divide ``hidden_dim``.
        pool_size: side of the pooled RoI, P.
        proposals: "learned" (section 3.1), or "dense": from the image, see :class:`DenseProposals`;
            better where data are few, with two or three stages.
        proposal_init: of learned proposals, "image", "center", "grid" or "random" (Table 6).
        interaction: "dynamic", or "fully_connected": two fully connected layers on the RoI (Tables 3 to 5).
        self_attention: proposals attend to each other in every stage (Table 5).
        feature_reuse: a stage gets the object features of the one before (Table 4). Without, a dynamic one
            gets the learned proposal features again, and a fully connected one sees the RoI alone.
        fully_connected_dim: inner channels of the fully connected layers.
        classification_layers: layers of the tower before the class logits; may be 0.
        regression_layers: layers of the tower before the box deltas; may be 0.
        positional_encoding: add DETR's sine encoding to the pyramid (Table 10).
        backbone_norm: "frozen" (as published: batch norm, stem and first residual stage do not train),
            or, to train from scratch, "group" or "batch": everything trains.
        backbone_weights: "imagenet" (torchvision's, downloaded once), the path of a trunk's state dict in
            torchvision's layout, or None for none: then load a detector's weights, or train with
            ``backbone_norm="group"``, since a frozen random stem learns poorly.

    Returns:
        The detector.

    Raises:
        ValueError: if a size is too small, a name is unknown, ``num_heads`` (or 4, with positional
            encoding) does not divide ``hidden_dim``, nothing reads what self-attention gives, or the
            backbone weights do not fit.
    """
    sizes = {
        "num_classes": num_classes,
        "num_proposals": num_proposals,
        "num_stages": num_stages,
        "hidden_dim": hidden_dim,
        "dynamic_dim": dynamic_dim,
        "num_heads": num_heads,
        "pool_size": pool_size,
        "fully_connected_dim": fully_connected_dim,
    }
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"{name} must be at least 1, got {size}")
    for name, size in {
        "feedforward_dim": feedforward_dim,
        "classification_layers": classification_layers,
        "regression_layers": regression_layers,
    }.items():
        if size < 0:
            raise ValueError(f"{name} must be at least 0, got {size}")
    if hidden_dim % num_heads != 0:
        raise ValueError(f"num_heads must divide hidden_dim, got {num_heads} and {hidden_dim}")
    if positional_encoding and hidden_dim % 4 != 0:
        raise ValueError(f"positional_encoding needs a hidden_dim that 4 divides, got {hidden_dim}")
    if proposals not in PROPOSALS:
        raise ValueError(f"proposals must be one of {PROPOSALS}, got {proposals!r}")
    trunk_and_pyramid = Backbone(backbone, backbone_norm, hidden_dim)
    if backbone_weights is not None:
        load_backbone_weights(trunk_and_pyramid, backbone, backbone_weights)
    stages = [
        Stage(
            num_classes,
            hidden_dim,
            dynamic_dim,
            feedforward_dim,
            num_heads,
            pool_size,
            interaction=interaction,
            self_attention=self_attention,
            feature_reuse=feature_reuse,
            fully_connected_dim=fully_connected_dim,
            classification_layers=classification_layers,
            regression_layers=regression_layers,
        )
        for _ in range(num_stages)
    ]
    for stage in stages:
        initialize_stage(stage)
    # Nothing reads the features of proposals if stages see RoIs alone.
    features_dim = hidden_dim if interaction == "dynamic" or feature_reuse else 0
    source: nn.Module = Proposals(num_proposals, features_dim, proposal_init)
    if proposals == "dense":
        source = DenseProposals(num_proposals, hidden_dim, num_classes)
    return SparseRCNN(
        trunk_and_pyramid,
        source,
        Head(stages, feature_reuse),
        positional_encoding,
    )


def initialize_stage(stage: Stage) -> None:
    """Xavier-uniform matrices and the focal prior as the class bias, as published.

    By name: the published code finds the class bias by its shape, and with 4, 64 or 256 classes
    overwrites the box predictor, a norm, or most of the head.
    """
    for name, parameter in stage.named_parameters():
        if name.endswith("weight") and parameter.dim() > 1:
            nn.init.xavier_uniform_(parameter)
    initialize_class_logits(stage.class_logits)


def initialize_class_logits(class_logits: nn.Linear) -> None:
    """A class predictor that starts from the focal prior: every class has probability 0.01."""
    nn.init.xavier_uniform_(class_logits.weight)
    nn.init.constant_(class_logits.bias, -math.log((1 - FOCAL_PRIOR) / FOCAL_PRIOR))
