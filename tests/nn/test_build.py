import inspect
import json
import math
import re
from pathlib import Path

import pytest
import torch
from torch import nn

from sparse_rcnn import SparseRCNN, build_sparse_rcnn
from sparse_rcnn.nn.build import FOCAL_PRIOR

REFERENCE = Path(__file__).resolve().parents[1] / "reference"
SIZES = [
    "num_classes",
    "num_proposals",
    "num_stages",
    "hidden_dim",
    "dynamic_dim",
    "num_heads",
    "pool_size",
    "fully_connected_dim",
]


def test_defaults_are_the_papers():
    parameters = inspect.signature(build_sparse_rcnn).parameters
    assert {name: parameter.default for name, parameter in parameters.items()} == {
        "backbone": "resnet50",
        "num_classes": 80,
        "num_proposals": 100,
        "num_stages": 6,
        "hidden_dim": 256,
        "dynamic_dim": 64,
        "feedforward_dim": 2048,
        "num_heads": 8,
        "pool_size": 7,
        "proposals": "learned",
        "proposal_init": "image",
        "interaction": "dynamic",
        "self_attention": True,
        "feature_reuse": True,
        "fully_connected_dim": 1024,
        "classification_layers": 1,
        "regression_layers": 3,
        "positional_encoding": False,
        "backbone_norm": "frozen",
        "config": None,
        "backbone_weights": "imagenet",
    }
    later = list(parameters.values())[1:]
    assert all(parameter.kind is inspect.Parameter.KEYWORD_ONLY for parameter in later)


def test_default_model_has_the_published_number_of_parameters():
    with torch.device("meta"):
        model = build_sparse_rcnn(backbone_weights=None)
    shapes = json.loads((REFERENCE / "r50_100.state_dict.json").read_text())
    # Published frozen batch norm: weight, bias and statistics of the trunk are buffers.
    is_buffer = re.compile(r"^backbone\.bottom_up\..*(\.norm|\.bn1)\.")
    published = sum(math.prod(shape) for key, shape in shapes.items() if not is_buffer.match(key))
    assert sum(parameter.numel() for parameter in model.parameters()) == published == 106_237_768
    everything = sum(math.prod(shape) for shape in shapes.values())
    assert sum(value.numel() for value in model.state_dict().values()) == everything


@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize("size", [0, -1])
def test_sizes_less_than_1_are_named(name, size):
    with pytest.raises(ValueError, match=f"{name} must be at least 1, got {size}"):
        build_sparse_rcnn(backbone_weights=None, **{name: size})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"backbone": "resnet19"}, r"backbone .*'resnet19'"),
        ({"backbone": ""}, r"backbone .*''"),
        ({"hidden_dim": 16, "num_heads": 3}, r"num_heads must divide hidden_dim, got 3 and 16"),
        ({"hidden_dim": 18, "num_heads": 2, "positional_encoding": True}, r"a multiple of 4, got 18"),
        ({"proposal_init": "corner"}, r"proposal_init .*'corner'"),
        ({"backbone_norm": "layer"}, r"norm .*'layer'"),
        ({"backbone_weights": "absent.pth"}, r"absent\.pth: no such file"),
    ],
)
def test_bad_arguments_are_named(build_small, arguments, message):
    with pytest.raises(ValueError, match=message):
        build_small(**arguments)


def test_sizes_arrive(build_small):
    model = build_small(pool_size=5)
    assert isinstance(model, SparseRCNN)
    assert len(model.head.stages) == 2
    stage = model.head.stages[0]
    assert stage.pool_size == 5
    assert stage.sampling_ratio == 2
    assert stage.attention.num_heads == 2
    assert stage.attention.dropout == 0
    assert stage.feedforward1.out_features == 24
    assert stage.interaction.norm1.normalized_shape == (4,)
    assert stage.interaction.out.in_features == 16 * 25
    assert stage.class_logits.out_features == 3
    assert model.proposals.features.shape == (6, 16)


HIDDEN_DIM = 32


# The published code finds the class bias by its size: these are the sizes of other things of the stage.
@pytest.mark.parametrize("num_classes", [1, 4, 64, 256, HIDDEN_DIM, 3 * HIDDEN_DIM])
def test_only_the_class_bias_starts_from_the_focal_prior(build_small, num_classes):
    model = build_small(
        num_classes=num_classes,
        hidden_dim=HIDDEN_DIM,
        dynamic_dim=64,
        feedforward_dim=256,
        proposal_init="image",
    )
    prior = -math.log((1 - FOCAL_PRIOR) / FOCAL_PRIOR)
    for name, parameter in model.head.named_parameters():
        if name.endswith("class_logits.bias"):
            assert torch.equal(parameter, torch.full((num_classes,), prior))
        else:
            assert not torch.isclose(parameter, torch.tensor(prior)).any(), name


@pytest.mark.parametrize("num_classes", [1, 4, 64, 256, HIDDEN_DIM])
def test_norms_start_as_the_identity(build_small, num_classes):
    model = build_small(num_classes=num_classes, hidden_dim=HIDDEN_DIM, dynamic_dim=64, feedforward_dim=256)
    norms = [module for module in model.head.modules() if isinstance(module, nn.LayerNorm)]
    assert len(norms) == 2 * 10
    assert all((norm.weight == 1).all() and (norm.bias == 0).all() for norm in norms)


@pytest.mark.parametrize("num_classes", [1, 4, 64, 256, HIDDEN_DIM])
def test_matrices_are_xavier_uniform(build_small, num_classes):
    model = build_small(num_classes=num_classes, hidden_dim=HIDDEN_DIM, dynamic_dim=64, feedforward_dim=256)
    for name, parameter in model.head.named_parameters():
        if parameter.dim() == 2:
            bound = math.sqrt(6 / sum(parameter.shape))
            assert parameter.abs().max() <= bound, name
            assert parameter.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.25), name


def test_every_class_starts_improbable(build_small, batch):
    scores = build_small(num_classes=80)(*batch).logits.sigmoid()
    assert scores.median().item() == pytest.approx(FOCAL_PRIOR, rel=0.5)


def test_stages_start_different(build_small):
    first, second = build_small().head.stages
    assert not first.class_logits.weight.equal(second.class_logits.weight)


def test_the_seed_decides():
    sizes = {"num_proposals": 3, "num_stages": 1, "hidden_dim": 8, "dynamic_dim": 2, "feedforward_dim": 8}
    models = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        models.append(build_sparse_rcnn("resnet18", backbone_weights=None, **sizes).state_dict())
    first, again, other = models
    assert all(value.equal(again[key]) for key, value in first.items())
    assert not all(value.equal(other[key]) for key, value in first.items())
