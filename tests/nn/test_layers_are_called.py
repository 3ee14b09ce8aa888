"""Layers are called, not only read: hooks run, and other modules can replace a layer."""

import copy

import pytest
import torch
from small_model import build_small_model, random_batch
from torch import Tensor, nn
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear

from sparse_rcnn.nn import fold_first_stage, fold_norms

VARIANTS = {
    "Sparse R-CNN": {"backbone_norm": "frozen"},
    "box head (Table 3)": {"interaction": "fully_connected"},
    "MobileNetV2": {"backbone": "mobilenet_v2", "backbone_norm": "batch"},
}


def linear_layers(model: nn.Module) -> dict[str, nn.Linear]:
    """All layers, except the one that PyTorch's attention reads. Its type shows this."""
    return {
        name: layer
        for name, layer in model.named_modules()
        if isinstance(layer, nn.Linear) and not isinstance(layer, NonDynamicallyQuantizableLinear)
    }


@pytest.mark.parametrize("folded", [False, True])
@pytest.mark.parametrize("variant", VARIANTS)
def test_hooks_of_every_layer_run(variant, folded):
    model = build_small_model(**VARIANTS[variant]).eval()
    model = fold_norms(fold_first_stage(model)) if folded else model
    leaves = {
        name: module
        for name, module in model.named_modules()
        if not list(module.children()) and not isinstance(module, NonDynamicallyQuantizableLinear)
    }
    called = set()
    for name, leaf in leaves.items():
        leaf.register_forward_hook(lambda *_, name=name: called.add(name))
    model(*random_batch(1, 64, 64))
    assert leaves.keys() - called == set()


class Adapted(nn.Module):
    """A linear layer with an adapter of low rank, as LoRA's: it has no ``weight``."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.layer = layer.requires_grad_(False)
        self.down = nn.Linear(layer.in_features, 2, bias=False)
        self.up = nn.Linear(2, layer.out_features, bias=False)
        nn.init.zeros_(self.up.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) + self.up(self.down(x))


@pytest.mark.parametrize("variant", ["Sparse R-CNN", "box head (Table 3)"])
def test_adapters_take_the_places_of_linear_layers(variant):
    model = build_small_model(**VARIANTS[variant])
    images, sizes = random_batch(2, 64, 96)
    expected = model(images, sizes)
    layers = linear_layers(model)
    for name, layer in layers.items():
        model.set_submodule(name, Adapted(layer))
    found = model(images, sizes)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)  # a new adapter changes nothing
    (found.logits.sum() + found.boxes.sum()).backward()
    for name in layers:
        assert model.get_submodule(name).up.weight.grad.abs().sum() > 0, name


@pytest.mark.filterwarnings("ignore:.*deprecated", "ignore:.*reduce_range")
def test_quantize_dynamic_quantises_the_whole_head():
    model = build_small_model(backbone_norm="frozen").eval()
    quantised = torch.ao.quantization.quantize_dynamic(copy.deepcopy(model), {nn.Linear})
    assert len(linear_layers(model)) == 20
    assert linear_layers(quantised) == {}
    with torch.no_grad():
        expected, found = model(*random_batch(1, 64, 64)), quantised(*random_batch(1, 64, 64))
    for mine, theirs in zip(found, expected, strict=True):  # 8 bits in each of 20 layers
        assert 0 < (mine - theirs).norm() / theirs.norm() < 0.05
