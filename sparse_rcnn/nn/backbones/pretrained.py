"""ImageNet weights of the trunk: torchvision's, or a file with the same names."""

import torch
from torch import Tensor

from sparse_rcnn.nn.backbones.backbone import Backbone
from sparse_rcnn.nn.state_dict import require_same_keys
from sparse_rcnn.nn.weight_file import read_checkpoint

__all__ = ["ADDRESS", "IMAGENET_WEIGHTS", "imagenet_state_dict", "load_backbone_weights"]

# torchvision's version 1, from which the published models start. Names end in the first digits of SHA-256.
ADDRESS = "https://download.pytorch.org/models"
IMAGENET_WEIGHTS = {
    "resnet18": f"{ADDRESS}/resnet18-f37072fd.pth",
    "resnet34": f"{ADDRESS}/resnet34-b627a593.pth",
    "resnet50": f"{ADDRESS}/resnet50-0676ba61.pth",
    "resnet101": f"{ADDRESS}/resnet101-63fe2227.pth",
    "mobilenet_v2": f"{ADDRESS}/mobilenet_v2-b0353104.pth",
}


def imagenet_state_dict(name: str) -> dict[str, Tensor]:
    """ImageNet weights of a trunk, downloaded once for each user and machine.

    Args:
        name: One of `IMAGENET_WEIGHTS`.

    Raises:
        OSError: If there is no network, or no space for the file.
    """
    url = IMAGENET_WEIGHTS[name]
    state_dict: dict[str, Tensor] = torch.hub.load_state_dict_from_url(url, progress=False, check_hash=True)
    return state_dict


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
            state_dict = imagenet_state_dict(name)
        except OSError as error:
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
