"""Weights that are cast once give exactly what autocast gives."""

import pytest
import torch
from small_model import build_small_model, random_batch
from torch import nn

from sparse_rcnn.nn import Backbone, cast_weights, fold_first_stage, fold_norms


class OwnBackbone(nn.Module):
    """A module of a user, with a layer that refuses half precision."""

    channels, strides = 16, (4, 8, 16, 32)

    def __init__(self):
        super().__init__()
        self.inner = Backbone("resnet10", "group", 16)
        self.first = nn.Conv2d(3, 3, 1)

    def forward(self, images):
        with torch.autocast(images.device.type, enabled=False):
            images = self.first(images)
        return self.inner(images)


def in_bfloat16(model, inputs):
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        return model(*inputs)


VARIANTS = {
    "published": {"backbone_norm": "frozen", "num_heads": 4},
    "group norm, no feature reuse": {"feature_reuse": False},
    "dense proposals": {"proposals": "dense", "num_heads": 4},
    "box head": {"interaction": "fully_connected"},
    "MobileNetV2, no attention": {"backbone": "mobilenet_v2", "self_attention": False},
    "a user's backbone": {"backbone": OwnBackbone()},
}


@pytest.mark.parametrize(
    "variant",
    [pytest.param(name, marks=[pytest.mark.slow] if "MobileNetV2" in name else []) for name in VARIANTS],
)
def test_results_are_exactly_those_of_autocast(variant):
    model = fold_first_stage(fold_norms(build_small_model(**VARIANTS[variant]).eval()))
    cast, inputs = cast_weights(model, "cpu"), random_batch(2, 64, 96)
    for found, expected in zip(in_bfloat16(cast, inputs), in_bfloat16(model, inputs), strict=True):
        assert torch.equal(found, expected)
    stage = cast.head.stages[-1]
    assert stage.class_logits.weight.dtype == stage.class_logits.bias.dtype == torch.bfloat16
    assert stage.regression_tower[1].weight.dtype == torch.float32  # a norm
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}


def test_a_model_in_training_mode_is_refused():
    with pytest.raises(ValueError, match=r"cast_weights needs .* call model\.eval\(\) first"):
        cast_weights(build_small_model(), "cpu")
