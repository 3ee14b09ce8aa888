"""The model of a run: the recipe's, or that of a checkpoint to fine-tune."""

import argparse
from typing import Any

import sparse_rcnn
from sparse_rcnn import SparseRCNN, build_sparse_rcnn
from sparse_rcnn.data import COCO_CLASS_NAMES
from sparse_rcnn.nn import checkpoint_class_names, load_weights, read_checkpoint, recognize_layout


def model_config(
    arguments: argparse.Namespace, num_classes: int, weights: dict[str, Any] | None
) -> dict[str, Any]:
    """Arguments of build_sparse_rcnn: the recipe's, over them those of --weights, over them those given."""
    keys = (
        "backbone",
        "backbone_norm",
        "num_proposals",
        "num_stages",
        "hidden_dim",
        "dynamic_dim",
        "feedforward_dim",
        "num_heads",
        "proposal_init",
        "interaction",
        "self_attention",
        "feature_reuse",
        "fully_connected_dim",
        "classification_layers",
        "regression_layers",
        "positional_encoding",
    )
    config = {key: getattr(arguments, key) for key in keys}
    if weights is not None:
        stored = weights.get("config") or sparse_rcnn.nn.infer_config(weights)
        config.update({key: value for key, value in stored.items() if key not in arguments.given})
    config["num_classes"] = num_classes
    return config


def build_model(
    arguments: argparse.Namespace, class_names: list[str], resumed: dict[str, Any] | None, rank: int
) -> tuple[SparseRCNN, dict[str, Any]]:
    """The model, with pretrained weights or those of --weights, and the arguments that it was built with.

    The one of a run that goes on (its checkpoint is ``resumed``) is as it was, without weights: the file of
    --weights may be gone by now.
    """
    weights = resumed
    if weights is None and arguments.weights:
        weights = read_checkpoint(arguments.weights)
    config = model_config(arguments, len(class_names), weights)
    stored = weights is not None
    pretrained = None if arguments.backbone_weights == "none" or stored else arguments.backbone_weights
    if config["backbone_norm"] == "frozen" and pretrained is None and not stored:
        raise ValueError(
            "--backbone-norm frozen needs pretrained weights: a random stem that never trains learns poorly; "
            "give --backbone-weights or --weights, or train from scratch with --backbone-norm group"
        )
    if config["backbone_norm"] == "group" and pretrained == "imagenet":
        raise ValueError("--backbone-norm group trains from scratch: give --backbone-weights none")
    model = build_sparse_rcnn(**config, backbone_weights=pretrained)
    if weights is not None and resumed is None:
        names = checkpoint_class_names(weights)
        if names is None and recognize_layout(weights) != "sparse_rcnn":
            names = list(COCO_CLASS_NAMES)  # the authors' files carry no names, and are COCO's
        anew = load_weights(model, weights, new_classes=names is not None and names != class_names)
        if rank == 0:
            what = f"everything but {', '.join(anew)}, which start anew" if anew else "everything"
            print(f"{arguments.weights}: loaded {what}")
    return model, config
