"""Loads a checkpoint into a model for fine-tuning, or builds the model of a checkpoint."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from sparse_rcnn.nn.build import build_sparse_rcnn, initialize_class_logits
from sparse_rcnn.nn.checkpoints.checkpoint import Checkpoint, our_state_dict, validate_checkpoint
from sparse_rcnn.nn.checkpoints.undrawn import Undrawn
from sparse_rcnn.nn.detector import SparseRCNN
from sparse_rcnn.nn.model_config import OWN_BACKBONE
from sparse_rcnn.nn.state_dict import require_same_keys

__all__ = ["build_from_checkpoint", "load_weights"]


def load_weights(
    model: SparseRCNN, checkpoint: Checkpoint | Mapping[str, Any], new_classes: bool = False
) -> list[str]:
    """Loads a checkpoint into a model, to fine-tune it.

    If the number of classes differs, or `new_classes` is set, the class predictors are initialised again with
    the focal prior. Everything else must fit.

    Args:
        model: The model. It is changed in place.
        checkpoint: The result of `load_checkpoint`, or the content of a file of this library, detectron2 or
            mmdetection.
        new_classes: The classes are different ones, even if their number is the same.

    Returns:
        The names of the entries that were initialised again. Empty if everything was loaded.

    Raises:
        ValueError: If an entry is missing, surplus, of another shape or not finite. The message names it.

    Example:
        >>> cats = build_sparse_rcnn("resnet10", num_classes=1, num_stages=1, backbone_weights=None)
        >>> pets = build_sparse_rcnn("resnet10", num_classes=2, num_stages=1, backbone_weights=None)
        >>> load_weights(pets, {"config": cats.config.to_dict(), "model": cats.state_dict()})
        ['head.stages.0.class_logits.weight', 'head.stages.0.class_logits.bias']
    """
    expected = model.state_dict()
    given = checkpoint.weights if isinstance(checkpoint, Checkpoint) else our_state_dict(checkpoint)
    # Only trainable batch norms count their batches. The results do not depend on the counters.
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
        if key in given and given[key].dim() > 0:  # only the number of classes may differ
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
    """Builds the model of a checkpoint and loads its weights.

    Args:
        checkpoint: The result of `load_checkpoint`; or plain data with the options of `build_sparse_rcnn`
            under `"config"` and the state dict under `"model"`; or a state dict of this library (with a
            ResNet and 8 heads), detectron2 or mmdetection.
        backbone: Your own module, if the model was built with one. Its weights are loaded, too.

    Returns:
        The model in evaluation mode. Its `image_size` is the size to which images are resized.

    Raises:
        ValueError: If the checkpoint is unknown or incomplete, its parts do not fit together, or a backbone
            is missing or not needed.

    Example:
        >>> from sparse_rcnn.nn import load_checkpoint, save_checkpoint
        >>> model = build_sparse_rcnn("resnet10", num_classes=2, num_stages=1, backbone_weights=None)
        >>> save_checkpoint("mine.pth", model)
        >>> build_from_checkpoint(load_checkpoint("mine.pth")).image_size
        ImageSize(shortest_side=800, longest_side=1333)
    """
    if not isinstance(checkpoint, Checkpoint):
        checkpoint = validate_checkpoint(checkpoint)
    own = checkpoint.config.backbone == OWN_BACKBONE
    if own and backbone is None:
        raise ValueError(
            "the model has a backbone of its user's own, and the file cannot build it: create that module "
            "and call build_from_checkpoint(load_checkpoint(file), backbone=module)"
        )
    if backbone is not None and not own:
        raise ValueError(f"the model has the backbone {checkpoint.config.backbone!r}: leave out backbone=")
    with Undrawn():
        model = build_sparse_rcnn(backbone, config=checkpoint.config, backbone_weights=None)
    load_weights(model, checkpoint)
    model.image_size = checkpoint.image_size
    return model.eval()
