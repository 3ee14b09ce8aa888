"""The options of a model: bounds, types and texts in one place."""

import dataclasses

import pytest
import torch

from sparse_rcnn import build_sparse_rcnn
from sparse_rcnn.nn import ModelConfig


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_stages": 10**9}, "num_stages must be at most 100, got 1000000000"),
        ({"num_classes": 3.0}, r"num_classes must be a whole number, got 3\.0"),
        ({"num_classes": True}, "num_classes must be a whole number, got True"),
        ({"num_proposals": None}, "num_proposals must be a whole number, got None"),
        ({"num_proposals": torch.zeros(2)}, "num_proposals must be a whole number, got tensor"),
        ({"self_attention": 1}, "self_attention must be True or False, got 1"),
        ({"interaction": "none"}, r"interaction must be one of .*'none'"),
        ({"proposal_init": ["image"]}, r"proposal_init must be one of .*\['image'\]"),
        ({"num_heads": 3}, "num_heads must divide hidden_dim, got 3 and 256"),
        ({"classification_layers": -1}, "classification_layers must be at least 0, got -1"),
    ],
)
def test_what_no_model_can_have_is_named(options, message):
    with pytest.raises(ValueError, match=message):
        ModelConfig(**options)
    with pytest.raises(ValueError, match=message):
        ModelConfig.from_dict(options)


def test_plain_data_and_back(build_small):
    config = build_small(pool_size=5).config
    assert config.pool_size == 5
    assert ModelConfig.from_dict(config.to_dict()) == config
    # As in older files: with `backbone_weights`, and without newer options.
    older = {"num_stages": 2, "backbone_weights": "imagenet"}
    assert ModelConfig.from_dict(older) == ModelConfig(num_stages=2)
    with pytest.raises(ValueError, match="config has no option 'num_queries'"):
        ModelConfig.from_dict({"num_queries": 3})
    with pytest.raises(ValueError, match="config must be a dict of options, got list"):
        ModelConfig.from_dict([])


def test_options_go_over_those_of_the_config(build_small):
    config = build_small().config
    model = build_sparse_rcnn(config=config, num_classes=7, backbone_weights=None)
    assert model.config == dataclasses.replace(config, num_classes=7)
    assert len(model.head.stages[1].class_logits.bias) == 7
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.num_classes = 5


def test_every_option_has_its_text_in_the_help():
    for option in dataclasses.fields(ModelConfig):
        assert f"        {option.name}: {option.metadata['help']}" in ModelConfig.__doc__
