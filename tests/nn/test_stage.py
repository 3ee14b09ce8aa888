import pytest
import torch

from sparse_rcnn.nn import Stage
from sparse_rcnn.ops import apply_deltas, flatten_pyramid, pyramid_roi_align

SIZES = {
    "num_classes": 3,
    "hidden_dim": 16,
    "dynamic_dim": 4,
    "feedforward_dim": 24,
    "num_heads": 2,
    "pool_size": 3,
}


def make_stage(**changes):
    torch.manual_seed(0)
    return Stage(**{**SIZES, **changes})


def make_inputs(batch=2, count=5, channels=16):
    generator = torch.Generator().manual_seed(0)
    levels = [torch.randn(batch, channels, 16 >> i, 24 >> i, generator=generator) for i in range(4)]
    corners = torch.rand(batch, count, 2, 2, generator=generator).sort(dim=2).values
    boxes = (corners * torch.tensor([96.0, 64.0])).flatten(2)
    return flatten_pyramid(levels), boxes, torch.randn(batch, count, channels, generator=generator)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"num_classes": 1},
        {"hidden_dim": 8, "num_heads": 1},
        {"hidden_dim": 12, "num_heads": 4},
        {"dynamic_dim": 1},
        {"feedforward_dim": 1},
        {"pool_size": 1},
        {"pool_size": 7},
        {"sampling_ratio": 1},
    ],
)
@pytest.mark.parametrize(("batch", "count"), [(1, 1), (2, 5)])
def test_shapes(changes, batch, count):
    stage = make_stage(**changes)
    channels = changes.get("hidden_dim", 16)
    logits, boxes, features = stage(*make_inputs(batch, count, channels))
    assert logits.shape == (batch, count, changes.get("num_classes", 3))
    assert boxes.shape == (batch, count, 4)
    assert features.shape == (batch, count, channels)


def test_published_towers():
    stage = make_stage()
    linear = [[m for m in tower if isinstance(m, torch.nn.Linear)] for tower in (
        stage.classification_tower,
        stage.regression_tower,
    )]  # fmt: skip
    assert [len(layers) for layers in linear] == [1, 3]
    assert all(layer.bias is None for layers in linear for layer in layers)


def test_equals_its_parts():
    stage = make_stage()
    pyramid, boxes, features = make_inputs()
    attended, _ = stage.attention(features, features, features)
    x = stage.attention_norm(features + attended)
    pooled = pyramid_roi_align(pyramid, boxes, 3, 2)
    x = stage.interaction_norm(x + stage.interaction(x, pooled))
    x = stage.feedforward_norm(x + stage.feedforward2(stage.feedforward1(x).relu()))
    logits, refined, new_features = stage(pyramid, boxes, features)
    torch.testing.assert_close(new_features, x)
    torch.testing.assert_close(logits, stage.class_logits(stage.classification_tower(x)))
    deltas = stage.box_deltas(stage.regression_tower(x))
    torch.testing.assert_close(refined, apply_deltas(deltas, boxes, (2.0, 2.0, 1.0, 1.0)))


def test_shared_features_equal_expanded_ones():
    stage = make_stage()
    pyramid, boxes, features = make_inputs()
    shared = stage(pyramid, boxes, features[:1])
    expanded = stage(pyramid, boxes, features[:1].expand(2, -1, -1))
    for a, b in zip(shared, expanded, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


def test_no_deltas_no_move():
    stage = make_stage()
    torch.nn.init.zeros_(stage.box_deltas.weight)
    torch.nn.init.zeros_(stage.box_deltas.bias)
    pyramid, boxes, features = make_inputs()
    torch.testing.assert_close(stage(pyramid, boxes, features)[1], boxes)


def test_proposals_are_a_set():
    stage = make_stage()
    pyramid, boxes, features = make_inputs()
    order = torch.tensor([3, 0, 4, 1, 2])
    permuted = stage(pyramid, boxes[:, order], features[:, order])
    for a, b in zip(permuted, stage(pyramid, boxes, features), strict=True):
        torch.testing.assert_close(a, b[:, order], rtol=1e-4, atol=1e-4)


def test_every_parameter_learns():
    stage = make_stage()
    logits, boxes, _ = stage(*make_inputs())
    (logits.square().sum() + boxes.square().sum()).backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in stage.parameters())
