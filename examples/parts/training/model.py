"""The model of a run: the recipe's, or that of a checkpoint to fine-tune."""

import argparse
from typing import Any

from parts.training.defaults import MODEL_OPTIONS
from sparse_rcnn import SparseRCNN, build_sparse_rcnn
from sparse_rcnn.data import COCO_CLASS_NAMES
from sparse_rcnn.nn import Checkpoint, ModelConfig, load_checkpoint, load_weights


def model_config(arguments: argparse.Namespace, num_classes: int, stored: ModelConfig | None) -> ModelConfig:
    """The recipe's options. Those of --weights (`stored`) override them, and given options override both."""
    options = {name: getattr(arguments, name) for name in MODEL_OPTIONS}
    if stored is not None:
        given = {name: value for name, value in options.items() if name in arguments.given}
        options = {**stored.to_dict(), **given}
    return ModelConfig(**{**options, "num_classes": num_classes})


def build_model(
    arguments: argparse.Namespace, class_names: list[str], resumed: dict[str, Any] | None, rank: int
) -> tuple[SparseRCNN, dict[str, Any]]:
    """The model, with pretrained weights or those of --weights, and its options.

    If a run is resumed from the checkpoint `resumed`, the model has the options of this checkpoint and no
    weights yet. The file of --weights is not needed again.
    """
    weights: Checkpoint | None = None
    if resumed is not None:
        config = ModelConfig.from_dict(resumed["config"])
    else:
        if arguments.weights:
            weights = load_checkpoint(arguments.weights)
        config = model_config(arguments, len(class_names), None if weights is None else weights.config)
    stored = weights is not None or resumed is not None
    pretrained = None if arguments.backbone_weights == "none" or stored else arguments.backbone_weights
    if config.backbone_norm == "frozen" and pretrained is None and not stored:
        raise ValueError(
            "--backbone-norm frozen needs pretrained weights: it does not train the stem; "
            "give --backbone-weights or --weights, or train from scratch with --backbone-norm group"
        )
    if config.backbone_norm == "group" and pretrained == "imagenet":
        raise ValueError("--backbone-norm group trains from scratch: give --backbone-weights none")
    model = build_sparse_rcnn(config=config, backbone_weights=pretrained)
    if weights is not None:
        names = weights.class_names
        if names is None and weights.layout != "sparse_rcnn":
            names = list(COCO_CLASS_NAMES)  # published files have no names; they are of COCO
        anew = load_weights(model, weights, new_classes=names is not None and names != class_names)
        if rank == 0:
            for remark in weights.remarks:
                print(f"{arguments.weights}: {remark}")
            what = f"everything but {', '.join(anew)}, which are initialised again" if anew else "everything"
            print(f"{arguments.weights}: loaded {what}")
    return model, config.to_dict()
