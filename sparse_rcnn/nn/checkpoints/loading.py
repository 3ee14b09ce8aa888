"""Loading a checkpoint, whoever wrote it: into a model to fine-tune, or as the model that it holds."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from sparse_rcnn.nn.build import build_sparse_rcnn, initialize_class_logits
from sparse_rcnn.nn.checkpoints.published import (
    from_detectron2,
    from_mmdetection,
    infer_config,
    recognize_layout,
    unwrap,
)
from sparse_rcnn.nn.detector import SparseRCNN
from sparse_rcnn.nn.state_dict import require_same_keys


def our_state_dict(checkpoint: Mapping[str, Any]) -> dict[str, Tensor]:
    """The state dict of any known checkpoint in this library's layout.

    Args:
        checkpoint: of this library, detectron2 or mmdetection, recognised by its keys.

    Returns:
        State dict in this library's layout.

    Raises:
        ValueError: if it is none of them, or a published one is not complete.
    """
    layout = recognize_layout(checkpoint)
    if layout == "detectron2":
        return from_detectron2(checkpoint)
    if layout == "mmdetection":
        return from_mmdetection(checkpoint)
    return unwrap(checkpoint)


def load_weights(model: SparseRCNN, checkpoint: Mapping[str, Any], new_classes: bool = False) -> list[str]:
    """Loads a checkpoint into a model in place, to fine-tune it.

    The class predictors start anew from the focal prior if the number of classes differs, or if the caller
    knows that the classes are others. Everything else must fit.

    Args:
        model: the model to load.
        checkpoint: of this library, detectron2 or mmdetection, recognised by its keys.
        new_classes: the classes differ although their number may not.

    Returns:
        Names of the entries that start anew; empty if everything was loaded.

    Raises:
        ValueError: if an entry is missing, surplus or of another shape; the message names it.
    """
    expected = model.state_dict()
    given = our_state_dict(checkpoint)
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


def checkpoint_class_names(checkpoint: Mapping[str, Any]) -> list[str] | None:
    """The class names that a checkpoint carries, by label.

    Args:
        checkpoint: as loaded from its file.

    Returns:
        ``"class_names"`` of this library's files, or what mmdetection keeps in ``"meta"``; None where the
        file carries no names, as the authors' do.
    """
    if "class_names" in checkpoint:
        return list(checkpoint["class_names"])
    meta = checkpoint.get("meta")
    if not isinstance(meta, Mapping):
        return None
    names = meta.get("CLASSES") or dict(meta.get("dataset_meta") or {}).get("classes")
    return None if names is None else [str(name) for name in names]


def build_from_checkpoint(checkpoint: Mapping[str, Any]) -> SparseRCNN:
    """The model that a checkpoint holds.

    Args:
        checkpoint: with the arguments of ``build_sparse_rcnn`` under ``"config"`` and the state dict under
            ``"model"``, as the training script writes it; or a state dict of this library (with a ResNet and
            8 heads), detectron2 or mmdetection.

    Returns:
        The model in evaluation mode.

    Raises:
        ValueError: if the checkpoint is unknown or incomplete, or its config does not fit.
    """
    config = dict(checkpoint["config"]) if "config" in checkpoint else infer_config(checkpoint)
    config["backbone_weights"] = None
    try:
        model = build_sparse_rcnn(**config)
    except TypeError as error:
        raise ValueError(f"the checkpoint's config {config} is not of build_sparse_rcnn: {error}") from error
    load_weights(model, checkpoint)
    return model.eval()
