import copy
import math

import pytest
import torch
import torchvision
from torch import nn
from torchvision.models.feature_extraction import create_feature_extractor
from torchvision.models.resnet import BasicBlock, ResNet
from torchvision.ops import FeaturePyramidNetwork, FrozenBatchNorm2d

from sparse_rcnn.nn import Backbone
from sparse_rcnn.nn.backbones.backbone import BACKBONES, norm_layer
from sparse_rcnn.nn.backbones.frozen_norm import FrozenNorm2d
from sparse_rcnn.nn.backbones.pooling import pool_of_slices

# Torchvision has no ResNet below 18 layers, but it has the parts of one.
THEIRS = {name: getattr(torchvision.models, name) for name in BACKBONES if name != "resnet10"}
THEIRS["resnet10"] = lambda: ResNet(BasicBlock, [1, 1, 1, 1])
DEEPEST = "resnet101"  # a second a test
NORM_TYPES = {"frozen": FrozenNorm2d, "batch": nn.BatchNorm2d, "group": nn.GroupNorm}


def hollow(*arguments, **options):
    """A backbone without values, which takes long to draw."""
    with torch.device("meta"):
        return Backbone(*arguments, **options)


def frozen_parameters(module):
    return {name for name, parameter in module.named_parameters() if not parameter.requires_grad}


@pytest.mark.parametrize("name", BACKBONES)
def test_levels_have_strides_4_to_32(name):
    levels = hollow(name, out_channels=8).to_empty(device="cpu")(torch.zeros(2, 3, 64, 96))
    assert [tuple(level.shape) for level in levels] == [
        (2, 8, 16, 24),
        (2, 8, 8, 12),
        (2, 8, 4, 6),
        (2, 8, 2, 3),
    ]


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2"])
@pytest.mark.parametrize("size", [(70, 45), (33, 97), (9, 9), (31, 200)])
def test_uneven_sizes_round_up(name, size):
    levels = Backbone(name, "group", out_channels=8)(torch.rand(1, 3, *size))
    for level, stride in zip(levels, (4, 8, 16, 32), strict=True):
        assert tuple(level.shape[2:]) == tuple(math.ceil(side / stride) for side in size)


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_frozen_resnet_trains_all_but_stem_and_first_stage(name):
    backbone = hollow(name, "frozen")
    expected = {
        parameter
        for parameter, _ in backbone.named_parameters()
        if parameter.startswith(("trunk.conv1.", "trunk.layer1."))
    }
    assert len(expected) > 3
    assert frozen_parameters(backbone) == expected


def test_frozen_mobilenet_trains_all_from_stride_8_on():
    backbone = hollow("mobilenet_v2", "frozen")
    first = tuple(f"trunk.features.{index}." for index in range(4))
    expected = {parameter for parameter, _ in backbone.named_parameters() if parameter.startswith(first)}
    assert len(expected) > 3
    assert frozen_parameters(backbone) == expected


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2"])
@pytest.mark.parametrize("norm", ["batch", "group"])
def test_trainable_norms_freeze_nothing(name, norm):
    assert frozen_parameters(hollow(name, norm)) == set()


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2"])
@pytest.mark.parametrize("norm", list(NORM_TYPES))
def test_every_norm_is_of_the_chosen_type(name, norm):
    trunk = hollow(name, norm).trunk
    norms = [module for module in trunk.modules() if isinstance(module, tuple(NORM_TYPES.values()))]
    assert len(norms) >= 20
    assert {type(module) for module in norms} == {NORM_TYPES[norm]}


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2"])
def test_frozen_norms_do_not_depend_on_the_batch_or_mode(name):
    backbone = Backbone(name, "frozen", out_channels=8)
    before = {key: value.clone() for key, value in backbone.state_dict().items()}
    images = torch.rand(2, 3, 64, 64)
    training = backbone.train()(images)
    evaluation = backbone.eval()(images)
    assert all(a.equal(b) for a, b in zip(training, evaluation, strict=True))
    assert all(value.equal(before[key]) for key, value in backbone.state_dict().items())


@pytest.mark.parametrize(
    ("name", "norm"),
    [
        *((name, "frozen") for name in BACKBONES if name != DEEPEST),
        pytest.param(DEEPEST, "frozen", marks=pytest.mark.slow),
        *(("resnet18", "batch"), ("mobilenet_v2", "batch")),
    ],
)
def test_trunk_equals_torchvision(name, norm):
    torch.manual_seed(0)
    theirs = THEIRS[name]().eval()
    for module in theirs.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.uniform_(module.weight, 0.3, 0.7)
    trunk = hollow(name, norm).trunk.eval()
    expected_keys = trunk.state_dict().keys()
    given = {key: value for key, value in theirs.state_dict().items() if key in expected_keys}
    trunk.load_state_dict(given, assign=True)
    if name == "mobilenet_v2":
        blocks = [theirs.features[index] for index in (3, 6, 13, 18)]
    else:
        blocks = [theirs.layer1, theirs.layer2, theirs.layer3, theirs.layer4]
    outputs = []
    for block in blocks:
        block.register_forward_hook(lambda module, inputs, output: outputs.append(output))
    images = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        theirs(images)
        levels = trunk(images)
    assert len(outputs) == len(levels) == 4
    for level, output in zip(levels, outputs, strict=True):
        torch.testing.assert_close(level, output, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "name", [*(name for name in BACKBONES if name != DEEPEST), pytest.param(DEEPEST, marks=pytest.mark.slow)]
)
def test_a_seed_gives_torchvisions_first_weights(name):
    torch.manual_seed(0)
    ours = Backbone(name, "batch", out_channels=8)
    torch.manual_seed(0)
    trunk = THEIRS[name]().state_dict()
    pyramid = FeaturePyramidNetwork(ours.trunk.channels, 8).state_dict()
    assert all(value.equal(trunk[key]) for key, value in ours.trunk.state_dict().items())
    assert all(value.equal(pyramid[key]) for key, value in ours.fpn.state_dict().items())


def test_pyramid_is_torchvisions_on_the_trunks_levels():
    torch.manual_seed(0)
    backbone = Backbone("resnet18", "group", out_channels=8)
    images = torch.randn(1, 3, 64, 96)
    levels = dict(zip("abcd", backbone.trunk(images), strict=True))
    network = FeaturePyramidNetwork([64, 128, 256, 512], 8)
    network.load_state_dict(backbone.fpn.state_dict())
    expected = network(levels).values()
    for ours, theirs in zip(backbone(images), expected, strict=True):
        assert ours.equal(theirs)


@pytest.mark.parametrize("channels", [8, 24, 32, 96, 144, 1280])
def test_group_norm_fits_every_width(channels):
    assert norm_layer("group")(channels)(torch.rand(2, channels, 3, 3)).shape == (2, channels, 3, 3)


def test_unknown_norm_is_named():
    with pytest.raises(ValueError, match="'layer'"):
        norm_layer("layer")


def test_unknown_backbone_is_named():
    with pytest.raises(ValueError, match="'resnet19'"):
        Backbone("resnet19")


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_frozen_norm_is_torchvisions_in_the_type_of_its_input(layout):
    mine, theirs = FrozenNorm2d(5), FrozenBatchNorm2d(5)
    for name, buffer in theirs.named_buffers():
        buffer.copy_(torch.rand(5) + 0.5)
        mine.get_buffer(name).copy_(buffer)
    assert mine.state_dict().keys() == theirs.state_dict().keys()
    x = torch.randn(2, 5, 4, 6).to(memory_format=layout).requires_grad_()
    torch.testing.assert_close(mine(x), theirs(x))
    assert mine(x).is_contiguous(memory_format=layout)
    torch.testing.assert_close(
        torch.autograd.grad(mine(x).square().sum(), x), torch.autograd.grad(theirs(x).square().sum(), x)
    )
    half = mine(x.bfloat16())
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), theirs(x), rtol=0.03, atol=0.03)


def norm_with_other_buffers():
    norm = FrozenNorm2d(5)
    norm.load_state_dict({name: torch.rand(5) + 0.5 for name in norm.state_dict()})
    return norm


CHANGES = {
    "nothing": lambda norm: norm,
    "written to": lambda norm: norm.running_var.mul_(3) is None or norm,
    "replaced": lambda norm: setattr(norm, "weight", torch.rand(5)) or norm,
    "copied, then written to": lambda norm: CHANGES["written to"](copy.deepcopy(norm)),
    "copied": copy.deepcopy,
    "in double": lambda norm: norm.double(),
    "from meta, assigned": lambda norm: load(FrozenNorm2d(5).to("meta"), norm.state_dict(), assign=True),
    "from meta, emptied": lambda norm: load(
        FrozenNorm2d(5).to("meta").to_empty(device="cpu"), norm.state_dict()
    ),
}


def load(norm, state_dict, assign=False):
    norm.load_state_dict(state_dict, assign=assign)
    return norm


@pytest.mark.parametrize("change", CHANGES)
def test_frozen_norm_is_that_of_its_buffers_whatever_became_of_them(change):
    norm = CHANGES[change](norm_with_other_buffers())
    # What was made in advance is used where it may be: the test of speed is in test_kernel_counts.py.
    assert norm._is_prepared() == (change not in {"written to", "replaced", "copied, then written to"})
    x = torch.randn(2, 5, 4, 6, dtype=norm.weight.dtype)
    expected = FrozenBatchNorm2d(5).to(x.dtype)
    expected.load_state_dict(norm.state_dict())
    torch.testing.assert_close(norm(x), expected(x))
    other = {name: torch.rand(5) for name in norm.state_dict()}
    expected.load_state_dict(other)
    torch.testing.assert_close(
        torch.func.functional_call(norm, other, x.float()), expected.float()(x.float())
    )


def test_frozen_norm_of_inference_mode_still_trains():
    with torch.inference_mode():
        made, loaded = (
            norm_with_other_buffers(),
            load(FrozenNorm2d(5), norm_with_other_buffers().state_dict()),
        )
        converted = norm_with_other_buffers().double().float()
        for norm in (made, loaded, converted):
            norm.running_mean.add_(1)  # of which tensors of inference mode keep no count
            x = torch.randn(1, 5, 2, 2)
            theirs = load(FrozenBatchNorm2d(5), norm.state_dict())
            torch.testing.assert_close(norm(x), theirs(x))
    norm = norm_with_other_buffers()
    with torch.inference_mode():
        norm.load_state_dict({name: torch.rand(5) for name in norm.state_dict()})
    x = torch.randn(1, 5, 2, 2, requires_grad=True)
    norm(x).sum().backward()
    assert x.grad.abs().sum() > 0


def test_torchvision_extracts_features():
    backbone = Backbone("resnet18", "frozen", 8).eval()
    wanted = {"trunk.layer2": "c3", **{f"fpn.layer_blocks.{i}": f"p{i + 2}" for i in range(4)}}
    images = torch.rand(1, 3, 64, 64)
    found = create_feature_extractor(backbone, wanted)(images)
    assert torch.equal(found["c3"], backbone.trunk(images)[1])
    for number, level in enumerate(backbone(images), 2):
        assert torch.equal(found[f"p{number}"], level)


@pytest.mark.parametrize("size", [(7, 8), (8, 7), (1, 2), (33, 64)])
def test_maxima_of_slices_are_the_stems_pooling(size):
    x = torch.rand(2, 3, *size)
    assert torch.equal(pool_of_slices(x), nn.functional.max_pool2d(x, 3, stride=2, padding=1))
