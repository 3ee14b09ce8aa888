import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from sparse_rcnn import build_sparse_rcnn
from sparse_rcnn.nn import (
    ModelConfig,
    from_detectron2,
    from_mmdetection,
    infer_config,
    recognize_layout,
    to_detectron2,
    to_mmdetection,
)
from sparse_rcnn.nn.checkpoints.empty_model import empty_model

REFERENCE = Path(__file__).resolve().parents[2] / "reference"
CONVERSIONS = {
    "detectron2": (to_detectron2, from_detectron2, "model"),
    "mmdetection": (to_mmdetection, from_mmdetection, "state_dict"),
}
SIZES = {
    "num_classes": 4,
    "num_proposals": 7,
    "num_stages": 3,
    "hidden_dim": 24,
    "dynamic_dim": 5,
    "feedforward_dim": 40,
    "pool_size": 3,
    "classification_layers": 2,
    "regression_layers": 4,
}
PUBLISHED = {
    "num_classes": 80,
    "num_proposals": 100,
    "num_stages": 6,
    "hidden_dim": 256,
    "dynamic_dim": 64,
    "feedforward_dim": 2048,
    "pool_size": 7,
    "backbone_norm": "frozen",
    "classification_layers": 1,
    "regression_layers": 3,
}


def shapes_only(backbone="resnet18", **changes):
    """The state dict of a model without values: names and shapes are all that conversion looks at."""
    return empty_model(ModelConfig(backbone, **{**SIZES, "num_heads": 1, **changes})).state_dict()


@pytest.fixture(params=list(CONVERSIONS))
def layout(request):
    return request.param


@pytest.fixture(scope="module")
def checkpoints():
    ours = shapes_only()
    return {layout: to(ours) for layout, (to, _, _) in CONVERSIONS.items()}


def assert_same_entries(found, expected):
    assert found.keys() == expected.keys()
    assert all(found[key] is value for key, value in expected.items())


@pytest.mark.parametrize(
    ("backbone", "changes"),
    [
        ("resnet10", {}),
        ("resnet18", {}),
        ("resnet34", {"num_stages": 1, "num_classes": 1}),
        ("resnet50", {"num_stages": 2, "num_proposals": 1, "pool_size": 1}),
        ("resnet101", {"num_stages": 11, "hidden_dim": 8, "dynamic_dim": 1, "feedforward_dim": 1}),
        # Sizes that are equal to each other must not be mixed up.
        ("resnet18", {"num_classes": 24, "num_proposals": 24, "dynamic_dim": 24, "feedforward_dim": 24}),
        ("resnet18", {"num_classes": 300, "num_proposals": 300, "num_stages": 2, "pool_size": 14}),
    ],
)
def test_round_trip(layout, backbone, changes):
    to, back, _ = CONVERSIONS[layout]
    ours = shapes_only(backbone, **changes)
    assert_same_entries(back(to(ours)), ours)


@pytest.mark.parametrize("case", ["small", "r50_100", "mmdet_r50_100"])
def test_keys_and_shapes_are_the_published_ones(case):
    published = json.loads((REFERENCE / f"{case}.state_dict.json").read_text())
    sizes = PUBLISHED
    if case == "small":
        sizes = {**SIZES, "num_classes": 5, "num_proposals": 20, "hidden_dim": 32, "dynamic_dim": 8}
        sizes = {**sizes, "feedforward_dim": 64, "pool_size": 7}
        sizes = {**sizes, "classification_layers": 1, "regression_layers": 3}
    ours = shapes_only("resnet50", **sizes)
    theirs = to_mmdetection(ours) if case.startswith("mmdet") else to_detectron2(ours)
    assert {key: list(value.shape) for key, value in theirs.items()} == published


@pytest.mark.parametrize("case", ["r50_100", "mmdet_r50_100"])
def test_config_of_the_published_files(case):
    published = json.loads((REFERENCE / f"{case}.state_dict.json").read_text())
    checkpoint = {key: torch.empty(shape, device="meta") for key, shape in published.items()}
    assert infer_config(checkpoint) == {"backbone": "resnet50", **PUBLISHED}


@pytest.mark.parametrize(
    "backbone",
    ["resnet10", "resnet18", "resnet34", "resnet50", pytest.param("resnet101", marks=pytest.mark.slow)],
)
def test_config_builds_the_same_model(layout, backbone):
    to, _, _ = CONVERSIONS[layout]
    config = infer_config(to(shapes_only(backbone)))
    assert config == {"backbone": backbone, **SIZES, "backbone_norm": "frozen"}


def test_config_of_our_own_checkpoint():
    ours = shapes_only()
    assert recognize_layout(ours) == "sparse_rcnn"


def test_wrapper_and_other_entries(layout, checkpoints):
    _, back, wrapper = CONVERSIONS[layout]
    plain = back(checkpoints[layout])
    wrapped = {wrapper: checkpoints[layout], "iteration": 7, "meta": {"CLASSES": ["x"]}, "optimizer": {}}
    assert_same_entries(back(wrapped), plain)
    assert recognize_layout(wrapped) == layout
    assert infer_config(wrapped) == infer_config(checkpoints[layout])


def test_numpy_values(layout):
    to, back, wrapper = CONVERSIONS[layout]
    ours = build_sparse_rcnn(backbone_weights=None, backbone="resnet18", **SIZES).state_dict()
    arrays = {key: value.numpy() for key, value in to(ours).items()}
    assert all(isinstance(value, np.ndarray) for value in arrays.values())
    found = back({wrapper: arrays})
    assert found.keys() == ours.keys()
    assert all(found[key].equal(value) for key, value in ours.items())


def test_inputs_stay_as_they_are(layout, checkpoints):
    _, back, _ = CONVERSIONS[layout]
    copy = dict(checkpoints[layout])
    back(copy)
    assert_same_entries(copy, checkpoints[layout])


# Among them all that sizes are read off: a wrong one must not make others look wrong.
KEYS = {
    "detectron2": [
        "init_proposal_boxes.weight",
        "init_proposal_features.weight",
        "head.head_series.0.class_logits.bias",
        "head.head_series.2.class_logits.weight",
        "head.head_series.1.bboxes_delta.bias",
        "head.head_series.0.norm1.weight",
        "head.head_series.0.self_attn.in_proj_weight",
        "head.head_series.0.inst_interact.dynamic_layer.weight",
        "head.head_series.0.inst_interact.norm1.weight",
        "head.head_series.0.inst_interact.out_layer.weight",
        "head.head_series.2.linear1.bias",
        "head.head_series.1.reg_module.7.weight",
        "backbone.bottom_up.stem.conv1.weight",
        "backbone.bottom_up.res5.1.conv2.norm.running_var",
        "backbone.bottom_up.res5.0.shortcut.weight",
        "backbone.fpn_output4.weight",
        "backbone.fpn_lateral2.bias",
    ],
    "mmdetection": [
        "rpn_head.init_proposal_bboxes.weight",
        "rpn_head.init_proposal_features.weight",
        "roi_head.bbox_head.0.fc_cls.bias",
        "roi_head.bbox_head.2.fc_cls.weight",
        "roi_head.bbox_head.1.fc_reg.bias",
        "roi_head.bbox_head.0.attention_norm.weight",
        "roi_head.bbox_head.0.attention.attn.in_proj_weight",
        "roi_head.bbox_head.0.instance_interactive_conv.dynamic_layer.weight",
        "roi_head.bbox_head.0.instance_interactive_conv.norm_in.weight",
        "roi_head.bbox_head.0.instance_interactive_conv.fc_layer.weight",
        "roi_head.bbox_head.2.ffn.layers.0.0.bias",
        "roi_head.bbox_head.1.reg_fcs.7.weight",
        "backbone.conv1.weight",
        "backbone.layer4.1.bn2.running_var",
        "backbone.layer4.0.downsample.0.weight",
        "neck.fpn_convs.2.conv.weight",
        "neck.lateral_convs.0.conv.bias",
    ],
}
LAYOUTS_AND_KEYS = [(layout, key) for layout, keys in KEYS.items() for key in keys]


def named_keys(layout, checkpoint):
    _, back, _ = CONVERSIONS[layout]
    with pytest.raises(ValueError, match="key") as caught:
        back(checkpoint)
    return re.findall(r"keys? '([^']+)'", str(caught.value))


@pytest.mark.parametrize(("layout", "key"), LAYOUTS_AND_KEYS)
def test_missing_key_is_named(checkpoints, layout, key):
    rest = {name: value for name, value in checkpoints[layout].items() if name != key}
    assert named_keys(layout, rest) == [key]


@pytest.mark.parametrize(("layout", "key"), LAYOUTS_AND_KEYS)
@pytest.mark.parametrize("change", ["longer", "wider"])
def test_misshapen_key_is_named(checkpoints, layout, key, change):
    shape = checkpoints[layout][key].shape
    shape = (shape[0] + 1, *shape[1:]) if change == "longer" else (*shape[:-1], shape[-1] + 1, 1)
    names = named_keys(layout, {**checkpoints[layout], key: torch.empty(shape, device="meta")})
    if "init_proposal" in key and change == "longer":
        # Boxes and features have different numbers of proposals. It is not known which number is wrong.
        assert key in names
        assert all("init_proposal" in name for name in names)
    else:
        assert names == [key]


@pytest.mark.parametrize(
    ("layout", "key"),
    [
        ("detectron2", "anything"),
        ("detectron2", "head.head_series.0.linear3.weight"),
        ("detectron2", "head.head_series.3.linear1.weight"),  # of a stage that isn't there
        ("detectron2", "backbone.bottom_up.res2.2.conv1.weight"),
        ("detectron2", "backbone.bottom_up.res5.0.conv3.weight"),
        ("detectron2", "backbone.fpn_output6.weight"),
        ("mmdetection", "anything"),
        ("mmdetection", "roi_head.bbox_head.0.fc_cls.extra"),
        ("mmdetection", "roi_head.bbox_head.3.fc_cls.weight"),  # of a stage that isn't there
        ("mmdetection", "backbone.layer1.2.conv1.weight"),
        ("mmdetection", "backbone.layer4.0.conv3.weight"),
        ("mmdetection", "neck.fpn_convs.4.conv.weight"),
    ],
)
def test_surplus_key_is_named(checkpoints, layout, key):
    assert named_keys(layout, {**checkpoints[layout], key: torch.empty(3, device="meta")}) == [key]


@pytest.mark.parametrize("part", ["bias", "weight"])
def test_only_stage_without_a_class_layer(part):
    theirs = to_detectron2(shapes_only(num_stages=1))
    key = f"head.head_series.0.class_logits.{part}"
    assert named_keys("detectron2", {name: value for name, value in theirs.items() if name != key}) == [key]


@pytest.mark.parametrize("stage", [0, 1, 2])
def test_missing_stage_is_named(checkpoints, layout, stage):
    prefix = {"detectron2": f"head.head_series.{stage}.", "mmdetection": f"roi_head.bbox_head.{stage}."}[
        layout
    ]
    rest = {key: value for key, value in checkpoints[layout].items() if not key.startswith(prefix)}
    if stage == 2:  # a model of two stages is as good
        assert infer_config(rest)["num_stages"] == 2
    else:
        names = named_keys(layout, rest)
        assert names
        assert all(name.startswith(prefix) for name in names)


def test_counters_are_optional(checkpoints):
    theirs = checkpoints["mmdetection"]
    rest = {key: value for key, value in theirs.items() if not key.endswith("num_batches_tracked")}
    assert len(rest) < len(theirs)
    assert_same_entries(from_mmdetection(rest), from_mmdetection(theirs))


@pytest.mark.parametrize("value", ["text", None, {"nested": 1}, [[1], [2, 3]]])
def test_entry_that_is_no_tensor_is_named(layout, checkpoints, value):
    _, back, _ = CONVERSIONS[layout]
    with pytest.raises(ValueError, match="'odd'"):
        back({**checkpoints[layout], "odd": value})


def test_the_other_layout_is_refused(layout, checkpoints):
    _, back, _ = CONVERSIONS[layout]
    (other,) = set(CONVERSIONS) - {layout}
    with pytest.raises(ValueError, match="not a Sparse R-CNN"):
        back(checkpoints[other])


def test_incomplete_state_dict_is_not_converted(layout):
    to, _, _ = CONVERSIONS[layout]
    ours = shapes_only()
    del ours["head.stages.1.box_deltas.weight"]
    with pytest.raises(ValueError, match=r"missing key 'head\.stages\.1\.box_deltas\.weight'"):
        to(ours)


def test_mobilenet_has_no_published_layout(layout):
    to, _, _ = CONVERSIONS[layout]
    with pytest.raises(ValueError, match="ResNet"):
        to(shapes_only("mobilenet_v2"))


def test_group_norm_round_trip(layout):
    to, back, _ = CONVERSIONS[layout]
    ours = shapes_only(backbone_norm="group")
    theirs = to(ours)
    assert not any("running_" in key or "num_batches" in key for key in theirs)
    assert infer_config(theirs)["backbone_norm"] == "group"
    assert_same_entries(back(theirs), ours)


def test_batch_norm_becomes_frozen(layout):
    to, back, _ = CONVERSIONS[layout]
    ours = shapes_only(backbone_norm="batch")
    back_again = back(to(ours))
    expected = {key: value for key, value in ours.items() if not key.endswith("num_batches_tracked")}
    assert_same_entries(back_again, expected)
    assert back_again.keys() == shapes_only(backbone_norm="frozen").keys()


@pytest.mark.parametrize("wrapper", [None, "model", "state_dict"])
def test_layout_is_recognised(wrapper, checkpoints):
    for expected, state_dict in {**checkpoints, "sparse_rcnn": shapes_only()}.items():
        assert recognize_layout({wrapper: state_dict} if wrapper else state_dict) == expected


@pytest.mark.parametrize("checkpoint", [{}, {"fc.weight": torch.zeros(1)}, {"model": {}}, {"optimizer": {}}])
def test_unknown_layout(checkpoint):
    with pytest.raises(ValueError, match="not a"):
        recognize_layout(checkpoint)


@pytest.mark.parametrize("checkpoint", [[1, 2], None, torch.zeros(3), "model_final.pth"])
@pytest.mark.parametrize("function", [from_detectron2, from_mmdetection, recognize_layout, infer_config])
def test_checkpoint_must_be_a_dict(function, checkpoint):
    with pytest.raises(ValueError, match="must be a dict"):
        function(checkpoint)
