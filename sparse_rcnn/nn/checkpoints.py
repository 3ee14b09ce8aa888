"""Published checkpoints: from and to the key layouts of detectron2 (the authors' code) and mmdetection.

Tensors are the same in all three layouts, only their names differ. Which names must be there, and their
shapes, follows from the size of the model, and that is read off the checkpoint itself.
"""

import re
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from sparse_rcnn.nn.build import build_sparse_rcnn
from sparse_rcnn.nn.state_dict import require_same_keys

# (our key, theirs): applied in order, every rule that matches.
DETECTRON2_RULES = (
    (r"^proposals\.boxes_norm_cxcywh$", "init_proposal_boxes.weight"),
    (r"^proposals\.features$", "init_proposal_features.weight"),
    (r"^backbone\.trunk\.(conv1|bn1)\.", r"backbone.bottom_up.stem.\1."),
    (r"^backbone\.trunk\.layer1\.", "backbone.bottom_up.res2."),
    (r"^backbone\.trunk\.layer2\.", "backbone.bottom_up.res3."),
    (r"^backbone\.trunk\.layer3\.", "backbone.bottom_up.res4."),
    (r"^backbone\.trunk\.layer4\.", "backbone.bottom_up.res5."),
    (r"^(backbone\.bottom_up\..*)\bbn(\d)\.", r"\1conv\2.norm."),
    (r"^(backbone\.bottom_up\..*)\bdownsample\.0\.", r"\1shortcut."),
    (r"^(backbone\.bottom_up\..*)\bdownsample\.1\.", r"\1shortcut.norm."),
    *((rf"^backbone\.fpn\.inner_blocks\.{i}\.0\.", f"backbone.fpn_lateral{i + 2}.") for i in range(4)),
    *((rf"^backbone\.fpn\.layer_blocks\.{i}\.0\.", f"backbone.fpn_output{i + 2}.") for i in range(4)),
    (r"^head\.stages\.(\d+)\.", r"head.head_series.\1."),
    (r"^(head\..*)\.attention\.", r"\1.self_attn."),
    (r"^(head\..*)\.attention_norm\.", r"\1.norm1."),
    (r"^(head\..*)\.interaction\.generator\.", r"\1.inst_interact.dynamic_layer."),
    (r"^(head\..*)\.interaction\.out\.", r"\1.inst_interact.out_layer."),
    (r"^(head\..*)\.interaction\.norm", r"\1.inst_interact.norm"),
    (r"^(head\..*)\.interaction_norm\.", r"\1.norm2."),
    (r"^(head\..*)\.feedforward(\d)\.", r"\1.linear\2."),
    (r"^(head\..*)\.feedforward_norm\.", r"\1.norm3."),
    (r"^(head\..*)\.classification_tower\.", r"\1.cls_module."),
    (r"^(head\..*)\.regression_tower\.", r"\1.reg_module."),
    (r"^(head\..*)\.box_deltas\.", r"\1.bboxes_delta."),
)
MMDETECTION_RULES = (
    (r"^proposals\.boxes_norm_cxcywh$", "rpn_head.init_proposal_bboxes.weight"),
    (r"^proposals\.features$", "rpn_head.init_proposal_features.weight"),
    (r"^backbone\.trunk\.", "backbone."),
    (r"^backbone\.fpn\.inner_blocks\.(\d)\.0\.", r"neck.lateral_convs.\1.conv."),
    (r"^backbone\.fpn\.layer_blocks\.(\d)\.0\.", r"neck.fpn_convs.\1.conv."),
    (r"^head\.stages\.(\d+)\.", r"roi_head.bbox_head.\1."),
    (r"^(roi_head\..*)\.attention\.", r"\1.attention.attn."),
    (r"^(roi_head\..*)\.interaction\.generator\.", r"\1.instance_interactive_conv.dynamic_layer."),
    (r"^(roi_head\..*)\.interaction\.norm1\.", r"\1.instance_interactive_conv.norm_in."),
    (r"^(roi_head\..*)\.interaction\.norm2\.", r"\1.instance_interactive_conv.norm_out."),
    (r"^(roi_head\..*)\.interaction\.out\.", r"\1.instance_interactive_conv.fc_layer."),
    (r"^(roi_head\..*)\.interaction\.norm3\.", r"\1.instance_interactive_conv.fc_norm."),
    (r"^(roi_head\..*)\.interaction_norm\.", r"\1.instance_interactive_conv_norm."),
    (r"^(roi_head\..*)\.feedforward1\.", r"\1.ffn.layers.0.0."),
    (r"^(roi_head\..*)\.feedforward2\.", r"\1.ffn.layers.1."),
    (r"^(roi_head\..*)\.feedforward_norm\.", r"\1.ffn_norm."),
    (r"^(roi_head\..*)\.classification_tower\.", r"\1.cls_fcs."),
    (r"^(roi_head\..*)\.regression_tower\.", r"\1.reg_fcs."),
    (r"^(roi_head\..*)\.class_logits\.", r"\1.fc_cls."),
    (r"^(roi_head\..*)\.box_deltas\.", r"\1.fc_reg."),
)
RESNET_BLOCKS = {
    "resnet10": ((1, 1, 1, 1), False),
    "resnet18": ((2, 2, 2, 2), False),
    "resnet34": ((3, 4, 6, 3), False),
    "resnet50": ((3, 4, 6, 3), True),
    "resnet101": ((3, 4, 23, 3), True),
}

Naming = Callable[[str], str]


def from_detectron2(checkpoint: Mapping[str, Any]) -> dict[str, Tensor]:
    """A checkpoint of the authors' code as this library's state dict.

    Args:
        checkpoint: state dict in detectron2's layout, with or without the outer ``"model"``.

    Returns:
        State dict for a :func:`~sparse_rcnn.build_sparse_rcnn` model of the same size.

    Raises:
        ValueError: if an entry is missing, surplus or of another shape; the message names it.
    """
    return _to_ours(unwrap(checkpoint), _detectron2_name, "detectron2")


def from_mmdetection(checkpoint: Mapping[str, Any]) -> dict[str, Tensor]:
    """A checkpoint of mmdetection as this library's state dict.

    Args:
        checkpoint: state dict in mmdetection's layout, with or without the outer ``"state_dict"``.

    Returns:
        State dict for a :func:`~sparse_rcnn.build_sparse_rcnn` model of the same size.

    Raises:
        ValueError: if an entry is missing, surplus or of another shape; the message names it.
    """
    return _to_ours(unwrap(checkpoint), _mmdetection_name, "mmdetection")


def to_detectron2(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """This library's state dict in the layout of the authors' code.

    Args:
        state_dict: of a model with a ResNet.

    Returns:
        State dict in detectron2's layout (their files wrap it as ``{"model": ...}``).

    Raises:
        ValueError: if an entry is missing, surplus or of another shape; the message names it.
    """
    ours = _to_ours(state_dict, _our_name, "sparse_rcnn")
    return {_detectron2_name(key): value for key, value in ours.items()}


def to_mmdetection(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """This library's state dict in mmdetection's layout.

    Args:
        state_dict: of a model with a ResNet.

    Returns:
        State dict in mmdetection's layout (their files wrap it as ``{"state_dict": ...}``).

    Raises:
        ValueError: if an entry is missing, surplus or of another shape; the message names it.
    """
    ours = _to_ours(state_dict, _our_name, "sparse_rcnn")
    theirs = {}
    for key, value in ours.items():
        theirs[_mmdetection_name(key)] = value
        if key.endswith("running_var"):  # their batch norms are frozen by a flag and keep their counters
            counter = key.replace("running_var", "num_batches_tracked")
            theirs[_mmdetection_name(counter)] = torch.zeros((), dtype=torch.int64)
    return theirs


def recognize_layout(checkpoint: Mapping[str, Any]) -> str:
    """Whose checkpoint it is, by its keys.

    Args:
        checkpoint: a checkpoint as loaded from its file.

    Returns:
        "sparse_rcnn", "detectron2" or "mmdetection".

    Raises:
        ValueError: if it is none of them.
    """
    state_dict = unwrap(checkpoint)
    starts = {"sparse_rcnn": "head.stages.", "detectron2": "head.head_series.", "mmdetection": "roi_head."}
    for layout, start in starts.items():
        if any(key.startswith(start) for key in state_dict):
            return layout
    raise ValueError(
        "not a Sparse R-CNN checkpoint of this library, detectron2 or mmdetection: "
        f"no key starts with {' or '.join(starts.values())}; the first keys are {list(state_dict)[:3]}"
    )


def unwrap(checkpoint: Mapping[str, Any]) -> dict[str, Tensor]:
    """The state dict of a checkpoint: below ``"model"`` or ``"state_dict"``, or the checkpoint itself.

    Args:
        checkpoint: a checkpoint as loaded from its file.

    Returns:
        Its state dict; NumPy arrays become tensors.

    Raises:
        ValueError: if an entry is not a tensor.
    """
    for wrapper in ("model", "state_dict"):
        if isinstance(checkpoint, Mapping) and isinstance(checkpoint.get(wrapper), Mapping):
            checkpoint = checkpoint[wrapper]
            break
    if not isinstance(checkpoint, Mapping):
        raise ValueError(f"a checkpoint must be a dict, got {type(checkpoint).__name__}")
    state_dict = {}
    for key, value in checkpoint.items():
        try:
            state_dict[key] = torch.as_tensor(value)
        except (TypeError, ValueError, RuntimeError) as error:
            raise ValueError(f"entry {key!r} is not a tensor but {type(value).__name__}") from error
    return state_dict


def infer_config(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of :func:`~sparse_rcnn.build_sparse_rcnn` for a checkpoint, read off its shapes.

    Args:
        checkpoint: a checkpoint of this library (of a model with a ResNet), detectron2 or mmdetection.

    Returns:
        The arguments but ``num_heads``, which no shape tells and which is 8 in every published model.

    Raises:
        ValueError: if no shape tells one of them.
    """
    return _infer_config(unwrap(checkpoint), NAMINGS[recognize_layout(checkpoint)])


def _to_ours(state_dict: Mapping[str, Tensor], name: Naming, layout: str) -> dict[str, Tensor]:
    # Only trainable batch norm counts its batches; no inference depends on the counters.
    given = {key: value for key, value in state_dict.items() if not key.endswith("num_batches_tracked")}
    config = _infer_config(given, name)
    with torch.device("meta"):
        model = build_sparse_rcnn(**config, num_heads=1, backbone_weights=None)
    expected = model.state_dict()
    names = {name(key): key for key in expected}
    require_same_keys(
        {key: expected[ours] for key, ours in names.items()}, given, f"{layout} checkpoint of {config}"
    )
    return {ours: given[key] for key, ours in names.items()}


def _infer_config(state_dict: Mapping[str, Tensor], name: Naming) -> dict[str, Any]:
    num_stages = _count(state_dict, name("head.stages.0.")[: -len("0.")])
    blocks = tuple(_count(state_dict, name(f"backbone.trunk.layer{i}.")) for i in (1, 2, 3, 4))
    bottleneck = any(re.search(r"layer1\.\d+\.conv3|res2\.\d+\.conv3", key) for key in state_dict)
    if num_stages == 0 or min(blocks) == 0:
        stages, trunk = name("head.stages.*"), name("backbone.trunk.layer1.*")
        raise ValueError(f"not a Sparse R-CNN with a ResNet: keys {stages!r} or {trunk!r} ... are missing")
    # The nearest one: a lost or foreign block is then reported as the keys that are missing or surplus.
    backbone = min(
        (resnet for resnet, (_, has_bottleneck) in RESNET_BLOCKS.items() if has_bottleneck == bottleneck),
        key=lambda resnet: sum(abs(a - b) for a, b in zip(RESNET_BLOCKS[resnet][0], blocks, strict=True)),
    )

    def size(key: str, dimension: int, what: str) -> int:
        """The size that most stages agree on, so that a single misshapen entry is found to be the odd one."""
        names = [name(key.replace("*", str(stage))) for stage in range(num_stages)]
        shapes = [state_dict[n].shape for n in names if n in state_dict]
        sizes = Counter(shape[dimension] for shape in shapes if len(shape) > dimension)
        if not sizes:
            raise ValueError(f"missing key {names[0]!r}: without it the {what} cannot be known")
        return sizes.most_common(1)[0][0]

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
        "backbone_norm": "frozen" if any("running_" in key for key in state_dict) else "group",
    }


def _count(state_dict: Mapping[str, Tensor], prefix: str) -> int:
    """One more than the highest number behind the prefix; a number with few keys is a stray, to be named."""
    numbers = [key[len(prefix) :].split(".")[0] for key in state_dict if key.startswith(prefix)]
    keys = Counter(int(number) for number in numbers if number.isdigit())
    most = max(keys.values(), default=0)
    return 1 + max((number for number, count in keys.items() if count >= most / 2), default=-1)


def _our_name(key: str) -> str:
    return key


def _detectron2_name(key: str) -> str:
    return _rename(key, DETECTRON2_RULES)


def _mmdetection_name(key: str) -> str:
    return _rename(key, MMDETECTION_RULES)


def _rename(key: str, rules: tuple[tuple[str, str], ...]) -> str:
    for pattern, replacement in rules:
        key = re.sub(pattern, replacement, key)
    return key


NAMINGS: dict[str, Naming] = {
    "sparse_rcnn": _our_name,
    "detectron2": _detectron2_name,
    "mmdetection": _mmdetection_name,
}
