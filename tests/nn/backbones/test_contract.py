"""Trunks of torchvision and timm with a pyramid as backbones: built, in one graph, saved and loaded."""

import pytest
import torch
import torchvision
from small_model import SMALL, random_batch
from torch import Tensor, nn
from torch.testing import assert_close
from torchvision.models.feature_extraction import create_feature_extractor
from torchvision.ops import FeaturePyramidNetwork

from sparse_rcnn import build_sparse_rcnn
from sparse_rcnn.nn import (
    Backbone,
    PyramidBackbone,
    build_from_checkpoint,
    fold_norms,
    load_checkpoint,
    save_checkpoint,
)

OPTIONS = {key: value for key, value in SMALL.items() if key not in ("backbone", "backbone_norm")}


class MobileNetV3(nn.Module):
    channels, strides = 16, (4, 8, 16, 32)

    def __init__(self):
        super().__init__()
        trunk = torchvision.models.mobilenet_v3_small(weights=None).features
        self.trunk = create_feature_extractor(trunk, {"1": "0", "3": "1", "8": "2", "12": "3"})
        self.fpn = FeaturePyramidNetwork([16, 24, 48, 576], self.channels)
        self.trunk.get_submodule("0").requires_grad_(False)

    def forward(self, images: Tensor) -> list[Tensor]:
        return list(self.fpn(self.trunk(images)).values())


class Timm(nn.Module):
    channels, strides = 16, (4, 8, 16, 32)

    def __init__(self):
        super().__init__()
        timm = pytest.importorskip("timm")
        self.trunk = timm.create_model("resnet10t", features_only=True, out_indices=(1, 2, 3, 4))
        self.fpn = FeaturePyramidNetwork(self.trunk.feature_info.channels(), self.channels)

    def forward(self, images: Tensor) -> list[Tensor]:
        levels: dict[str, Tensor] = {}
        for index, level in enumerate(self.trunk(images)):
            levels[str(index)] = level
        return list(self.fpn(levels).values())


@pytest.fixture(params=[MobileNetV3, Timm])
def model(request):
    torch.manual_seed(0)
    return build_sparse_rcnn(request.param(), **OPTIONS).eval()


@pytest.mark.slow
def test_in_one_graph(model):
    assert model.config.backbone == "module"
    images, sizes = random_batch(2, 96, 64)
    with torch.no_grad():
        expected = model(images, sizes)
        exported = torch.export.export(model, (images, sizes)).module()
        assert_close(exported(images, sizes), expected, rtol=1e-3, atol=1e-3)
        assert_close(torch.jit.script(model)(images, sizes), expected, rtol=1e-3, atol=1e-3)
        assert_close(
            torch.compile(model, backend="aot_eager", fullgraph=True)(images, sizes),
            expected,
            rtol=1e-3,
            atol=1e-3,
        )
        assert_close(fold_norms(model)(images, sizes), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.slow
def test_its_checkpoint_needs_the_module(model, tmp_path):
    save_checkpoint(tmp_path / "own.pth", model, ["a", "b", "c"])
    checkpoint = load_checkpoint(tmp_path / "own.pth")
    with pytest.raises(ValueError, match=r"create that module.*, backbone=module\)"):
        build_from_checkpoint(checkpoint)
    backbone = type(model.backbone)()
    loaded = build_from_checkpoint(checkpoint, backbone=backbone)
    assert all(value.equal(loaded.state_dict()[key]) for key, value in model.state_dict().items())
    with pytest.raises(ValueError, match="does not fit the model"):
        build_from_checkpoint(checkpoint, backbone=Backbone("resnet10", out_channels=16))


def test_what_is_frozen_stays_so():
    model = build_sparse_rcnn(MobileNetV3(), **OPTIONS)
    frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    assert frozen == {"backbone.trunk.0.0.weight", "backbone.trunk.0.1.weight", "backbone.trunk.0.1.bias"}


def test_the_named_ones_keep_the_contract(build_small):
    assert isinstance(build_small().backbone, PyramidBackbone)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"channels": 32}, "MobileNetV3 gives levels of 32 channels, but hidden_dim is 16"),
        ({"strides": (8, 16, 32)}, r"levels of strides \(4, 8, 16, 32\), got \(8, 16, 32\)"),
        ({"strides": 4}, "levels of strides"),
    ],
)
def test_what_does_not_fit_is_named(monkeypatch, changes, message):
    backbone = MobileNetV3()
    for name, value in changes.items():
        monkeypatch.setattr(MobileNetV3, name, value)
    with pytest.raises(ValueError, match=message):
        build_sparse_rcnn(backbone, **OPTIONS)


def test_a_trunk_alone_is_no_backbone():
    with pytest.raises(ValueError, match="ResNet has no attribute 'channels'"):
        build_sparse_rcnn(torchvision.models.resnet18(weights=None), **OPTIONS)
    with pytest.raises(ValueError, match="give the module as backbone"):
        build_sparse_rcnn("module", **OPTIONS)
