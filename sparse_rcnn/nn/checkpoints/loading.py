"""Loading a checkpoint, whoever wrote it: into a model to fine-tune, or as the model that it holds."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from sparse_rcnn.nn.build import build_sparse_rcnn, initialize_class_logits
from sparse_rcnn.nn.checkpoints.checkpoint import Checkpoint, our_state_dict, validate_checkpoint
from sparse_rcnn.nn.detector import SparseRCNN
from sparse_rcnn.nn.model_config import OWN_BACKBONE
from sparse_rcnn.nn.state_dict import require_same_keys

__all__ = ["build_from_checkpoint", "load_weights"]


def load_weights(
    model: SparseRCNN, checkpoint: Checkpoint | Mapping[str, Any], new_classes: bool = False
) -> list[str]:
    """Loads a checkpoint into a model in place, to fine-tune it.

    The class predictors start anew from the focal prior if the number of classes differs, or if the caller
    knows that the classes are others. Everything else must fit.

    Args:
        model: the model to load.
        checkpoint: what `load_checkpoint` gives, or the content of a file of this library, detectron2 or
            mmdetection, recognised by its keys.
        new_classes: the classes differ although their number may not.

    Returns:
        Names of the entries that start anew; empty if everything was loaded.

    Raises:
        ValueError: if an entry is missing, surplus, of another shape or not finite; the message names it.
    """
    expected = model.state_dict()
    given = checkpoint.weights if isinstance(checkpoint, Checkpoint) else our_state_dict(checkpoint)
    # Only trainable batch norm counts its batches; nothing else depends on the counters.
    given = {k: v for k, v in given.items() if k in expected or not k.endswith("num_batches_tracked")}
    class_layers = {name: module for name, module in model.named_modules() if name.endswith(".class_logits")}
    class_keys = [f"{name}.{entry}" for name in class_layers for entry in ("weight", "bias")]
    new_classes = new_classes or any(
        key in given and given[key].shape[:1] != expected[key].shape[:1] for key in class_keys
    )
    anew = class_keys if new_classes else []
    counters = {key for key in expected if key.endswith("num_batches_tracked")} - given.keys()
    fitting = {key: value for key, value in expected.items() if key not in counters}
    for key in anew:
        if key in given and given[key].dim() > 0:  # the number of classes is free, all else is not
            fitting[key] = expected[key].new_empty((len(given[key]), *expected[key].shape[1:]))
    require_same_keys(fitting, given, "the checkpoint does not fit the model")
    model.load_state_dict({**expected, **{key: given[key] for key in given if key not in anew}})
    if new_classes:
        for layer in class_layers.values():
            initialize_class_logits(layer)
    return anew


def build_from_checkpoint(
    checkpoint: Checkpoint | Mapping[str, Any], backbone: nn.Module | None = None
) -> SparseRCNN:
    """The model that a checkpoint holds.

        model = build_from_checkpoint(load_checkpoint("runs/shapes/checkpoint.pth"))

    Args:
        checkpoint: what `load_checkpoint` gives; or plain data with the options of `build_sparse_rcnn`
            under `"config"` and the state dict under `"model"`; or a state dict of this library (with a
            ResNet and 8 heads), detectron2 or mmdetection.
        backbone: the module, where the model was built with one of its user's; its weights are loaded.

    Returns:
        The model in evaluation mode; its `image_size` is what its images are to be resized to.

    Raises:
        ValueError: if the checkpoint is unknown or incomplete, its parts do not fit together, or a backbone
            is missing or given in vain.
    """
    if not isinstance(checkpoint, Checkpoint):
        checkpoint = validate_checkpoint(checkpoint)
    own = checkpoint.config.backbone == OWN_BACKBONE
    if own and backbone is None:
        raise ValueError(
            "its backbone is a module of its user's own, which no file can build: make that module, and call "
            "build_from_checkpoint(load_checkpoint(file), backbone=module)"
        )
    if backbone is not None and not own:
        raise ValueError(f"its backbone is {checkpoint.config.backbone!r}: leave out backbone=")
    model = build_sparse_rcnn(backbone, config=checkpoint.config, backbone_weights=None)
    load_weights(model, checkpoint)
    model.image_size = checkpoint.image_size
    return model.eval()
