"""Finds the options of a model from the shapes of its weights."""

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from sparse_rcnn.nn.checkpoints.published_names import Naming

__all__ = ["RESNET_BLOCKS", "read_off_config"]

RESNET_BLOCKS = {
    "resnet10": ((1, 1, 1, 1), False),
    "resnet18": ((2, 2, 2, 2), False),
    "resnet34": ((3, 4, 6, 3), False),
    "resnet50": ((3, 4, 6, 3), True),
    "resnet101": ((3, 4, 23, 3), True),
}


def read_off_config(state_dict: Mapping[str, Tensor], name: Naming) -> dict[str, Any]:
    """The arguments of `build_sparse_rcnn`, without `num_heads`: no shape depends on it.

    Args:
        state_dict: The state dict of a model with a ResNet, in any layout.
        name: A function from our keys to the keys of that layout.

    Returns:
        The arguments.

    Raises:
        ValueError: If a key is missing that is needed for an argument.
    """
    num_stages = _count(state_dict, name("head.stages.0.")[: -len("0.")])
    blocks = tuple(_count(state_dict, name(f"backbone.trunk.layer{i}.")) for i in (1, 2, 3, 4))
    bottleneck = any(re.search(r"layer1\.\d+\.conv3|res2\.\d+\.conv3", key) for key in state_dict)
    if num_stages == 0 or min(blocks) == 0:
        stages, trunk = name("head.stages.*"), name("backbone.trunk.layer1.*")
        raise ValueError(f"not a Sparse R-CNN with a ResNet: keys {stages!r} or {trunk!r} ... are missing")
    # Take the nearest ResNet. The keys of a missing or surplus block are then named in the error.
    backbone = min(
        (resnet for resnet, (_, has_bottleneck) in RESNET_BLOCKS.items() if has_bottleneck == bottleneck),
        key=lambda resnet: sum(abs(a - b) for a, b in zip(RESNET_BLOCKS[resnet][0], blocks, strict=True)),
    )

    def size(key: str, dimension: int, what: str) -> int:
        """The size in most stages. If one stage differs, the error then names that stage."""
        names = [name(key.replace("*", str(stage))) for stage in range(num_stages)]
        shapes = [state_dict[n].shape for n in names if n in state_dict]
        sizes = Counter(shape[dimension] for shape in shapes if len(shape) > dimension)
        if not sizes:
            raise ValueError(f"missing key {names[0]!r}: {what} cannot be found without it")
        return sizes.most_common(1)[0][0]

    def layers(tower: str) -> int:
        """The layers of a tower in most stages. Each layer is three modules: linear, norm and ReLU."""
        counts = (_count(state_dict, name(f"head.stages.{stage}.{tower}.")) for stage in range(num_stages))
        return (Counter(counts).most_common(1)[0][0] + 1) // 3

    hidden_dim = size("head.stages.*.attention_norm.weight", 0, "hidden_dim")
    bins = size("head.stages.*.interaction.out.weight", 1, "pool_size") // hidden_dim
    boxes, features = name("proposals.boxes_norm_cxcywh"), name("proposals.features")
    counts = {state_dict[key].shape[:1] for key in (boxes, features) if key in state_dict}
    if len(counts) != 1 or counts == {torch.Size([])}:
        raise ValueError(f"misshapen key {boxes!r} or key {features!r}: both must have one row per proposal")
    return {
        "backbone": backbone,
        "num_classes": size("head.stages.*.class_logits.bias", 0, "num_classes"),
        "num_proposals": counts.pop()[0],
        "num_stages": num_stages,
        "hidden_dim": hidden_dim,
        "dynamic_dim": size("head.stages.*.interaction.norm1.weight", 0, "dynamic_dim"),
        "feedforward_dim": size("head.stages.*.feedforward1.bias", 0, "feedforward_dim"),
        "pool_size": max(1, round(bins**0.5)),
        "classification_layers": layers("classification_tower"),
        "regression_layers": layers("regression_tower"),
        "backbone_norm": "frozen" if any("running_" in key for key in state_dict) else "group",
    }


def _count(state_dict: Mapping[str, Tensor], prefix: str) -> int:
    """One more than the highest number after the prefix. Numbers with few keys do not count."""
    numbers = [key[len(prefix) :].split(".")[0] for key in state_dict if key.startswith(prefix)]
    keys = Counter(int(number) for number in numbers if number.isdigit())
    most = max(keys.values(), default=0)
    return 1 + max((number for number, count in keys.items() if count >= most / 2), default=-1)
