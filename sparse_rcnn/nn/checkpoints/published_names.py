"""The names of this library's parameters in detectron2 (the authors' code) and in mmdetection."""

import re
from collections.abc import Callable

__all__ = [
    "DETECTRON2_RULES",
    "MMDETECTION_RULES",
    "NAMINGS",
    "Naming",
    "detectron2_name",
    "mmdetection_name",
    "our_name",
]

# (pattern of our key, replacement). All rules that match are applied, in this order.
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

Naming = Callable[[str], str]


def our_name(key: str) -> str:
    """Our key, unchanged."""
    return key


def detectron2_name(key: str) -> str:
    """The name in detectron2 for one of our keys, or for the beginning of one."""
    return _rename(key, DETECTRON2_RULES)


def mmdetection_name(key: str) -> str:
    """The name in mmdetection for one of our keys, or for the beginning of one."""
    return _rename(key, MMDETECTION_RULES)


def _rename(key: str, rules: tuple[tuple[str, str], ...]) -> str:
    for pattern, replacement in rules:
        key = re.sub(pattern, replacement, key)
    return key


NAMINGS: dict[str, Naming] = {
    "sparse_rcnn": our_name,
    "detectron2": detectron2_name,
    "mmdetection": mmdetection_name,
}
