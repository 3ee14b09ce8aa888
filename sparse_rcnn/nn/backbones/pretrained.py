"""ImageNet weights of the trunk: torchvision's, or a file with the same names."""

import torchvision
from torch import Tensor

from sparse_rcnn.nn.backbones.backbone import Backbone
from sparse_rcnn.nn.state_dict import require_same_keys
from sparse_rcnn.nn.weight_file import read_checkpoint

__all__ = ["IMAGENET_WEIGHTS", "load_backbone_weights"]

# Version 1: the published models start from it.
IMAGENET_WEIGHTS = {
    "resnet18": torchvision.models.ResNet18_Weights.IMAGENET1K_V1,
    "resnet34": torchvision.models.ResNet34_Weights.IMAGENET1K_V1,
    "resnet50": torchvision.models.ResNet50_Weights.IMAGENET1K_V1,
    "resnet101": torchvision.models.ResNet101_Weights.IMAGENET1K_V1,
    "mobilenet_v2": torchvision.models.MobileNet_V2_Weights.IMAGENET1K_V1,
}


def load_backbone_weights(backbone: Backbone, name: str, weights: str) -> None:
    """Loads weights into the trunk of a backbone. The feature pyramid does not change.

    Args:
        backbone: The backbone.
        name: Its name, such as "resnet50".
        weights: "imagenet", or the path of a state dict in torchvision's layout. A classifier in it is
            ignored. For MobileNetV2, the state dict of its `features` alone is enough.

    Raises:
        ValueError: If the file cannot be read or downloaded, or an entry is missing, surplus or of another
            shape.
    """
    if weights == "imagenet":
        if name not in IMAGENET_WEIGHTS:
            raise ValueError(
                f"there are no ImageNet weights for {name!r}, only for {sorted(IMAGENET_WEIGHTS)}: "
                "give a file as backbone_weights, or None"
            )
        try:
            state_dict = IMAGENET_WEIGHTS[name].get_state_dict(progress=False, check_hash=True)
        except OSError as error:  # no network, or no space for the file
            raise ValueError(
                f"ImageNet weights of {name!r} could not be downloaded ({error}): give a file in "
                "torchvision's layout as backbone_weights, or None and backbone_norm 'group' or 'batch'"
            ) from error
    else:
        state_dict = read_checkpoint(weights)
    for key, value in state_dict.items():
        if not isinstance(value, Tensor):
            raise ValueError(f"weights {weights!r}: entry {key!r} is not a tensor but {type(value).__name__}")
    features_only = name == "mobilenet_v2" and not any(key.startswith("features.") for key in state_dict)
    given = {f"features.{key}" if features_only else key: value for key, value in state_dict.items()}
    expected = backbone.trunk.state_dict()
    ignored = ("fc.", "classifier.", "features.classifier.")
    for key in list(given):
        # Only trainable batch norms count their batches.
        if key.startswith(ignored) or (key.endswith("num_batches_tracked") and key not in expected):
            del given[key]
    for key, value in expected.items():
        if key.endswith("num_batches_tracked"):
            given.setdefault(key, value)
    require_same_keys(expected, given, f"weights {weights!r} do not fit the trunk of {name}")
    backbone.trunk.load_state_dict(given)
