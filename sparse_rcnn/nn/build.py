"""Builds Sparse R-CNN from its options: a backbone, learned proposals and the stages of the head."""

import inspect
import math
from dataclasses import fields, replace
from typing import Any

from torch import nn

from sparse_rcnn.nn.backbones.backbone import Backbone
from sparse_rcnn.nn.backbones.contract import require_backbone
from sparse_rcnn.nn.backbones.pretrained import load_backbone_weights
from sparse_rcnn.nn.dense_proposals import DenseProposals
from sparse_rcnn.nn.detector import SparseRCNN
from sparse_rcnn.nn.head import Head
from sparse_rcnn.nn.model_config import OWN_BACKBONE, ModelConfig
from sparse_rcnn.nn.proposals import Proposals
from sparse_rcnn.nn.stage import Stage

__all__ = ["FOCAL_PRIOR", "build_sparse_rcnn", "initialize_class_logits", "initialize_stage"]

# Probability of every class at the start (Lin et al. 2017, Focal Loss, section 4.1).
FOCAL_PRIOR = 0.01


def build_sparse_rcnn(
    backbone: str | nn.Module | None = None,
    *,
    config: ModelConfig | None = None,
    backbone_weights: str | None = "imagenet",
    **options: Any,
) -> SparseRCNN:
    """Builds a detector. The defaults are the paper's (section 4, implementation details).

    Args:
        backbone: A name that `ModelConfig` knows, or a module that keeps the contract of `PyramidBackbone`. A
            module keeps its weights and its norms.
        config: Options to start from.
        backbone_weights: Weights of a named backbone: "imagenet" (torchvision's, downloaded once), the path
            of a trunk's state dict in torchvision's layout, or None. After None, load a detector's weights,
            or train with `backbone_norm="group"`: a model with a frozen random stem learns poorly.
        options: Fields of `ModelConfig`, by name. They override those of `config`.

    Returns:
        The detector. Its `config` holds its options.

    Raises:
        ValueError: If an option is out of bounds or unknown, a backbone does not keep the contract, no layer
            uses the result of self-attention, or the backbone weights do not fit.
        TypeError: If there is no option of that name.

    Example:
        >>> model = build_sparse_rcnn("resnet18", num_classes=3, num_proposals=50, backbone_weights=None)
        >>> model.config.num_stages
        6
    """
    if backbone is not None:
        options["backbone"] = OWN_BACKBONE if isinstance(backbone, nn.Module) else backbone
    config = replace(config or ModelConfig(), **options)
    if isinstance(backbone, nn.Module):
        require_backbone(backbone, config.hidden_dim)
        trunk_and_pyramid = backbone
    elif config.backbone == OWN_BACKBONE:
        raise ValueError(f"backbone {OWN_BACKBONE!r} stands for your own module: give the module as backbone")
    else:
        trunk_and_pyramid = Backbone(config.backbone, config.backbone_norm, config.hidden_dim)
        if backbone_weights is not None:
            load_backbone_weights(trunk_and_pyramid, config.backbone, backbone_weights)
    stages = [_build_stage(config) for _ in range(config.num_stages)]
    if config.proposals == "dense":
        for stage in stages:  # at first, each stage returns the boxes that it gets: they are good already
            nn.init.zeros_(stage.box_deltas.weight)
            nn.init.zeros_(stage.box_deltas.bias)
    model = SparseRCNN(
        trunk_and_pyramid,
        _build_proposals(config),
        Head(stages, config.feature_reuse),
        config.positional_encoding,
    )
    model.config = config
    return model


def _shown_signature() -> inspect.Signature:
    """The signature with every option and its default, for `help` and editors."""
    keyword = inspect.Parameter.KEYWORD_ONLY
    own = inspect.signature(build_sparse_rcnn).parameters
    first, *options = fields(ModelConfig)
    parameters = [
        own["backbone"].replace(default=first.default),
        *(inspect.Parameter(o.name, keyword, default=o.default, annotation=o.type) for o in options),
        own["config"],
        own["backbone_weights"],
    ]
    return inspect.Signature(parameters, return_annotation=SparseRCNN)


build_sparse_rcnn.__signature__ = _shown_signature()  # type: ignore[attr-defined]


def _build_proposals(config: ModelConfig) -> nn.Module:
    if config.proposals == "dense":
        return DenseProposals(config.num_proposals, config.hidden_dim, config.num_classes)
    # Without dynamic interaction and reuse, stages use RoIs alone, so proposals need no features.
    features_dim = config.hidden_dim if config.interaction == "dynamic" or config.feature_reuse else 0
    return Proposals(config.num_proposals, features_dim, config.proposal_init)


def _build_stage(config: ModelConfig) -> Stage:
    stage = Stage(
        config.num_classes,
        config.hidden_dim,
        config.dynamic_dim,
        config.feedforward_dim,
        config.num_heads,
        config.pool_size,
        interaction=config.interaction,
        self_attention=config.self_attention,
        feature_reuse=config.feature_reuse,
        fully_connected_dim=config.fully_connected_dim,
        classification_layers=config.classification_layers,
        regression_layers=config.regression_layers,
    )
    initialize_stage(stage)
    return stage


def initialize_stage(stage: Stage) -> None:
    """Initialises a stage as published: Xavier-uniform matrices, and the focal prior as the class bias.

    The class bias is found by its name. The published code finds it by its shape, and with 4, 64 or 256
    classes it overwrites the box predictor, a norm, or most of the head.
    """
    for name, parameter in stage.named_parameters():
        if name.endswith("weight") and parameter.dim() > 1:
            nn.init.xavier_uniform_(parameter)
    initialize_class_logits(stage.class_logits)


def initialize_class_logits(class_logits: nn.Linear) -> None:
    """Initialises a class predictor with the focal prior: every class starts at probability 0.01."""
    nn.init.xavier_uniform_(class_logits.weight)
    nn.init.constant_(class_logits.bias, -math.log((1 - FOCAL_PRIOR) / FOCAL_PRIOR))
