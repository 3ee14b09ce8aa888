import copy
import math
import re

import pytest
import torch
from small_model import SMALL, build_small_model

from sparse_rcnn.nn import build_from_checkpoint, load_weights, to_detectron2, to_mmdetection

PRIOR = -math.log(0.99 / 0.01)
CLASS_KEYS = [f"head.stages.{stage}.class_logits.{entry}" for stage in (0, 1) for entry in ("weight", "bias")]
SAME = {"backbone_norm": "frozen", "num_heads": 8}


@pytest.fixture(scope="module")
def source():
    """A model in which every value differs from a new model of `build_small`. No test changes it."""
    model = build_small_model(**SAME).eval()
    with torch.no_grad():
        for value in model.state_dict().values():
            value.add_(0.01 * torch.rand_like(value))
    return model


def checkpoint_of(source, **config):
    config = {**SMALL, **SAME, "backbone_weights": "imagenet", **config}
    return {"model": source.state_dict(), "config": config, "class_names": ["a", "b", "c"]}


@pytest.fixture(scope="module", params=["sparse_rcnn", "detectron2", "mmdetection"])
def checkpoint(request, source):
    if request.param == "detectron2":
        return {"model": to_detectron2(source.state_dict())}
    if request.param == "mmdetection":
        return {"state_dict": to_mmdetection(source.state_dict()), "meta": {}}
    return checkpoint_of(source)


def assert_loaded(model, source, anew=()):
    expected = source.state_dict()
    for key, value in model.state_dict().items():
        if key not in anew:
            assert value.equal(expected[key]), key


def assert_class_layers_start_anew(model, num_classes):
    for stage in model.head.stages:
        assert torch.equal(stage.class_logits.bias, torch.full((num_classes,), PRIOR))
        bound = math.sqrt(6 / sum(stage.class_logits.weight.shape))
        assert stage.class_logits.weight.abs().max() <= bound


def test_same_classes(build_small, source, checkpoint):
    model = build_small(**SAME)
    assert load_weights(model, checkpoint) == []
    assert_loaded(model, source)


@pytest.mark.parametrize("num_classes", [1, 4])
def test_other_number_of_classes(build_small, source, checkpoint, num_classes):
    model = build_small(**SAME, num_classes=num_classes)
    assert sorted(load_weights(model, checkpoint)) == sorted(CLASS_KEYS)
    assert_loaded(model, source, CLASS_KEYS)
    assert_class_layers_start_anew(model, num_classes)


def test_new_classes_of_the_same_number(build_small, source, checkpoint):
    model = build_small(**SAME)
    assert sorted(load_weights(model, checkpoint, new_classes=True)) == sorted(CLASS_KEYS)
    assert_loaded(model, source, CLASS_KEYS)
    assert_class_layers_start_anew(model, 3)


def test_new_classes_of_a_loaded_model(source):
    before = {key: value.clone() for key, value in source.state_dict().items()}
    model = copy.deepcopy(source)
    load_weights(model, {"model": before}, new_classes=True)
    assert_class_layers_start_anew(model, 3)


def test_parameters_stay_the_models_own(build_small, source):
    model = build_small(**SAME)
    parameters = dict(model.named_parameters())
    load_weights(model, source.state_dict())
    assert all(parameter is parameters[name] for name, parameter in model.named_parameters())
    with torch.no_grad():
        model.proposals.features.zero_()
    assert (source.proposals.features != 0).any()


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"num_proposals": 7}, "proposals.features"),
        ({"num_proposals": 7, "num_classes": 5}, "proposals.features"),
        ({"num_stages": 3}, "head.stages.2.attention.in_proj_weight"),
        ({"num_stages": 1}, "head.stages.1.attention.in_proj_weight"),
        ({"dynamic_dim": 5}, "head.stages.0.interaction.generator.weight"),
        ({"feedforward_dim": 25}, "head.stages.1.feedforward2.weight"),
        ({"pool_size": 4}, "head.stages.0.interaction.out.weight"),
        ({"hidden_dim": 24}, "proposals.features"),
        ({"backbone": "resnet34"}, "backbone.trunk.layer1.1.conv1.weight"),
        ({"backbone": "mobilenet_v2"}, "backbone.trunk.features.0.0.weight"),
        ({"backbone_norm": "group"}, "backbone.trunk.bn1.running_mean"),
    ],
)
def test_misfit_is_named(build_small, source, changes, key):
    model = build_small(**{**SAME, **changes})
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(ValueError, match="does not fit the model") as caught:
        load_weights(model, source.state_dict())
    problems = str(caught.value).split(": ", 1)[1]
    assert key in problems or "more" in problems
    assert all(value.equal(before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("key", ["proposals.features", "head.stages.1.box_deltas.bias", CLASS_KEYS[0]])
@pytest.mark.parametrize("new_classes", [False, True])
def test_missing_key_is_named(build_small, source, key, new_classes):
    state_dict = source.state_dict()
    del state_dict[key]
    with pytest.raises(ValueError, match=re.escape(f"missing key '{key}'")):
        load_weights(build_small(**SAME), state_dict, new_classes)


def test_surplus_key_is_named(build_small, source):
    with pytest.raises(ValueError, match="surplus key 'anything'"):
        load_weights(build_small(**SAME), {**source.state_dict(), "anything": torch.zeros(1)})


@pytest.mark.parametrize("key", ["proposals.features", "head.stages.1.box_deltas.bias"])
def test_misshapen_key_is_named(build_small, source, key):
    with pytest.raises(ValueError, match=re.escape(f"misshapen key '{key}'")):
        load_weights(build_small(**SAME), {**source.state_dict(), key: torch.zeros(5, 5)})


def test_class_layer_of_other_channels_is_a_misfit(build_small, source):
    state_dict = {**source.state_dict(), CLASS_KEYS[0]: torch.zeros(3, 17)}
    with pytest.raises(ValueError, match=re.escape(f"misshapen key '{CLASS_KEYS[0]}'")):
        load_weights(build_small(**SAME), state_dict)


def test_batch_norm_from_frozen(build_small, source, checkpoint):
    model = build_small(num_heads=8, backbone_norm="batch")
    assert load_weights(model, checkpoint) == []
    loaded = model.state_dict()
    assert all(loaded[key].equal(value) for key, value in source.state_dict().items())


def test_frozen_from_batch_norm(build_small):
    trained = build_small(num_heads=8, backbone_norm="batch")
    model = build_small(**SAME)
    assert load_weights(model, trained.state_dict()) == []
    assert_loaded(model, trained)


def test_build_from_checkpoint(source, checkpoint, batch):
    model = build_from_checkpoint(checkpoint)
    assert not model.training
    assert_loaded(model, source)
    with torch.no_grad():
        found, expected = model(*batch), source(*batch)
    assert found.logits.equal(expected.logits)
    assert found.boxes.equal(expected.boxes)


def test_build_leaves_the_checkpoint_as_it_is(checkpoint):
    before = dict(checkpoint.get("config", {}))
    build_from_checkpoint(checkpoint)
    assert checkpoint.get("config", {}) == before


def test_build_from_a_bare_state_dict_reads_the_sizes_off_it(source):
    model = build_from_checkpoint(source.state_dict())
    assert {k: v.shape for k, v in model.state_dict().items()} == {
        k: v.shape for k, v in source.state_dict().items()
    }


def test_build_with_an_unknown_argument_in_the_config(source):
    with pytest.raises(ValueError, match="num_queries"):
        build_from_checkpoint(checkpoint_of(source, num_queries=8))


def test_build_with_a_config_that_does_not_fit(source):
    with pytest.raises(ValueError, match=r"proposals\.features"):
        build_from_checkpoint(checkpoint_of(source, num_proposals=8))


def test_unknown_checkpoint(source):
    with pytest.raises(ValueError, match="not a Sparse R-CNN checkpoint"):
        build_from_checkpoint({"fc.weight": torch.zeros(1)})
    with pytest.raises(ValueError, match="not a Sparse R-CNN checkpoint"):
        load_weights(source, {"fc.weight": torch.zeros(1)})


def test_a_model_whose_weights_are_loaded_draws_none():
    """Drawing first weights takes a second at the published size, and changes later random numbers."""
    model = build_small_model(proposal_init="image")
    before = torch.get_rng_state()
    loaded = build_from_checkpoint({"config": model.config.to_dict(), "model": model.state_dict()})
    assert torch.equal(torch.get_rng_state(), before)
    assert all(value.equal(model.state_dict()[key]) for key, value in loaded.state_dict().items())
