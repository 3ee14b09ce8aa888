"""The switches of the paper's ablations, each against the whole model."""

import pytest
import torch
from small_model import build_small_model, random_batch
from torch.testing import assert_close

from sparse_rcnn.nn import BoxHead, DynamicInteraction, Stage
from sparse_rcnn.ops import add_positional_encoding, apply_deltas, flatten_pyramid, pyramid_roi_align

BOX_HEAD = {"interaction": "fully_connected", "fully_connected_dim": 8}
BARE = {
    **BOX_HEAD,
    "self_attention": False,
    "feedforward_dim": 0,
    "classification_layers": 0,
    "regression_layers": 0,
}


def names(model, part):
    return {name for name, _ in model.named_parameters() if part in name}


def run_in_training(model):
    images, sizes = random_batch(2, 64, 96)
    return model(images, sizes)


def unused(model):
    logits, boxes = run_in_training(model)
    (logits.square().sum() + boxes.square().sum()).backward()
    return {n for n, p in model.named_parameters() if p.requires_grad and p.grad is None}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {**BARE, "feature_reuse": False},
        BARE,
        {**BARE, "self_attention": True},
        BOX_HEAD,
        {"feature_reuse": False},
        {"positional_encoding": True},
    ],
    ids=lambda changes: "-".join(changes) or "whole",
)
def test_every_parameter_has_a_gradient(changes):
    # If a parameter gets no gradient, DistributedDataParallel waits forever or raises an error.
    assert unused(build_small_model(**changes)) == set()


def test_the_first_row_is_the_box_head_of_faster_rcnn():
    model = build_small_model(**BARE, feature_reuse=False, num_stages=1)
    (stage,) = model.head.stages
    assert {name.split(".")[0] for name, _ in stage.named_parameters()} == {
        "interaction",
        "class_logits",
        "box_deltas",
    }
    assert model.proposals.features.shape == (6, 0)
    images, sizes = random_batch(1, 64, 96)
    logits, boxes = model(images, sizes)
    learned, _ = model.proposals(sizes)
    levels = model.backbone(model.normalize(images, sizes))
    pooled = pyramid_roi_align(flatten_pyramid(levels), learned, 3, 2).flatten(2)
    box_head = stage.interaction
    x = box_head.fc2(box_head.fc1(pooled).relu()).relu()
    assert_close(logits[0], stage.class_logits(x))
    assert_close(boxes[0], apply_deltas(stage.box_deltas(x), learned))


def test_feature_reuse_widens_the_second_layer():
    without = build_small_model(**BARE, feature_reuse=False).head.stages[1].interaction
    reusing = build_small_model(**BARE).head.stages[1].interaction
    assert without.fc2.in_features == 8
    assert reusing.fc2.in_features == 8 + 16


def stages_see(model):
    """The features that each stage gets and returns."""
    seen = []
    for stage in model.head.stages:
        stage.register_forward_hook(lambda _, inputs, outputs: seen.append((inputs[2], outputs[2])))
    run_in_training(model)
    return seen


def test_feature_reuse_hands_object_features_on():
    (_, first), (second, _) = stages_see(build_small_model())
    assert second is first


def test_without_feature_reuse_every_stage_has_the_learned_features():
    model = build_small_model(feature_reuse=False)
    for given, _ in stages_see(model):
        assert_close(given, model.proposals.features[None])


def test_self_attention_is_all_that_relates_proposals():
    # Without it, a proposal's prediction does not depend on the others.
    for self_attention in (False, True):
        model = build_small_model(**{**BARE, "self_attention": self_attention}).eval()
        before = run_in_training(model)
        with torch.no_grad():
            model.proposals.features[0] += 1.0
        after = run_in_training(model)
        assert not torch.equal(before.logits[0, :, 0], after.logits[0, :, 0])
        assert torch.equal(before.logits[0, :, 1:], after.logits[0, :, 1:]) != self_attention


def test_the_interaction_is_the_difference_to_the_whole():
    whole, without = build_small_model(), build_small_model(**BOX_HEAD)
    assert isinstance(whole.head.stages[0].interaction, DynamicInteraction)
    assert isinstance(without.head.stages[0].interaction, BoxHead)
    assert names(whole, ".interaction_norm.")
    for part in (".attention.", ".feedforward", "_tower."):
        assert names(whole, part) == names(without, part)


def test_positional_encoding_is_added_to_the_pyramid():
    model = build_small_model(positional_encoding=True)
    plain = build_small_model()
    plain.load_state_dict(model.state_dict())
    images, sizes = random_batch(2, 64, 96)
    levels = add_positional_encoding(plain.backbone(plain.normalize(images, sizes)), sizes)
    expected = plain.head(levels, *plain.proposals(sizes))
    assert_close(model(images, sizes), expected)
    assert not torch.equal(plain(images, sizes).logits, expected.logits)


def test_unknown_interaction():
    with pytest.raises(ValueError, match=r"interaction must be one of .*'fully_connected'.*, got 'conv'"):
        Stage(3, 16, interaction="conv")


def test_attention_that_nobody_reads():
    with pytest.raises(ValueError, match="self_attention has no effect without feature_reuse"):
        build_small_model(**BOX_HEAD, feature_reuse=False)


@pytest.mark.parametrize("name", ["feedforward_dim", "classification_layers", "regression_layers"])
def test_negative_sizes(name):
    with pytest.raises(ValueError, match=f"{name} must be at least 0, got -1"):
        build_small_model(**{name: -1})


def test_fully_connected_dim_is_checked():
    with pytest.raises(ValueError, match="fully_connected_dim must be at least 1, got 0"):
        build_small_model(fully_connected_dim=0)
