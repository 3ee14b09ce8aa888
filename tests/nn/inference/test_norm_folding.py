"""Folding norms. test_reference_figures.py compares folded models with published figures."""

import copy

import pytest
import torch
from small_model import build_small_model, random_batch
from torch import nn
from torchvision.ops import FrozenBatchNorm2d

from sparse_rcnn.nn import EndToEndDetector, fold_norms

NORMS = (nn.BatchNorm2d, FrozenBatchNorm2d)


def with_statistics(model):
    """As after training: no norm is the identity."""
    generator = torch.Generator().manual_seed(0)
    for module in model.modules():
        if isinstance(module, NORMS):
            for tensor in (module.running_mean, module.running_var, module.weight, module.bias):
                tensor.data.copy_(torch.rand(tensor.shape, generator=generator) * 0.5 + 0.5)
    return model


# A kind of block each: basic, with a bottleneck, inverted.
@pytest.mark.parametrize(
    ("backbone", "norm"),
    [
        *((name, norm) for name in ("resnet10", "mobilenet_v2") for norm in ("frozen", "batch")),
        pytest.param("resnet50", "frozen", marks=pytest.mark.slow),
    ],
)
def test_features_stay_and_norms_go(backbone, norm):
    model = with_statistics(build_small_model(backbone=backbone, backbone_norm=norm)).double().eval()
    before = copy.deepcopy(model.state_dict())
    folded = fold_norms(model)
    assert not any(isinstance(module, NORMS) for module in folded.modules())
    images, sizes = random_batch(2, 64, 96)
    normalized = model.normalize(images, sizes)
    with torch.no_grad():
        for mine, theirs in zip(folded.backbone(normalized), model.backbone(normalized), strict=True):
            assert theirs.abs().max() > 0
            torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-9 * theirs.abs().max().item())
    after = model.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[key], value) for key, value in before.items())


def test_group_norms_stay():
    model = build_small_model(backbone_norm="group").eval()
    folded = fold_norms(model)
    assert folded.state_dict().keys() == model.state_dict().keys()
    assert folded is not model


def test_a_convolution_with_a_bias_and_a_norm_without_parameters():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, affine=False)).double().eval()
    model[1].running_mean.uniform_()
    model[1].running_var.uniform_(0.5, 2)
    x = torch.randn(1, 3, 5, 5, dtype=torch.float64)
    torch.testing.assert_close(fold_norms(model)(x), model(x))


def test_what_cannot_be_folded_is_refused():
    with pytest.raises(ValueError, match=r"call model.eval\(\) first"):
        fold_norms(build_small_model())
    inner = build_small_model(backbone_norm="batch").eval()
    outer = EndToEndDetector(inner)
    inner.train()
    with pytest.raises(ValueError, match=r"call model.eval\(\) first"):
        fold_norms(outer)
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4, track_running_stats=False)).eval()
    with pytest.raises(ValueError, match="running statistics"):
        fold_norms(model)
