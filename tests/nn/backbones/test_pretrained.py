import re

import pytest
import torch
import torchvision

from sparse_rcnn.nn import Backbone
from sparse_rcnn.nn.backbones.pretrained import IMAGENET_WEIGHTS, load_backbone_weights


@pytest.fixture(scope="module")
def resnet18():
    torch.manual_seed(0)
    return torchvision.models.resnet18(weights=None).state_dict()


@pytest.fixture(scope="module")
def mobilenet():
    torch.manual_seed(0)
    return torchvision.models.mobilenet_v2(weights=None).state_dict()


def load(tmp_path, state_dict, name="resnet18", norm="frozen"):
    path = tmp_path / "weights.pth"
    torch.save(state_dict, path)
    backbone = Backbone(name, norm, out_channels=8)
    load_backbone_weights(backbone, name, str(path))
    return backbone


@pytest.fixture(scope="module")
def hollow_resnet18(resnet18):
    """Entries of the right shapes, one of them with values: a file must hold more than its largest entry."""
    whole = "layer4.0.conv2.weight"
    return {k: v if k == whole else torch.zeros(()).expand(v.shape) for k, v in resnet18.items()}


def assert_refused(match, tmp_path, state_dict, name="resnet18", norm="frozen"):
    """Returns what is said."""
    path = tmp_path / "weights.pth"
    torch.save(state_dict, path)
    with torch.device("meta"):
        backbone = Backbone(name, norm, out_channels=8)
    with pytest.raises(ValueError, match=match) as caught:
        load_backbone_weights(backbone, name, str(path))
    return str(caught.value)


def assert_holds(backbone, state_dict):
    given = {key: value for key, value in state_dict.items() if not key.startswith(("fc.", "classifier."))}
    for key, value in backbone.trunk.state_dict().items():
        assert value.equal(given.pop(key)), key
    assert all(key.endswith("num_batches_tracked") for key in given)


@pytest.mark.parametrize("norm", ["frozen", "batch"])
def test_torchvision_file(tmp_path, resnet18, norm):
    assert_holds(load(tmp_path, resnet18, norm=norm), resnet18)


def test_torchvision_file_without_classifier(tmp_path, resnet18):
    without = {key: value for key, value in resnet18.items() if not key.startswith("fc.")}
    assert_holds(load(tmp_path, without), resnet18)


def test_batch_norm_from_a_file_without_counters(tmp_path, resnet18):
    without = {key: value for key, value in resnet18.items() if not key.endswith("num_batches_tracked")}
    backbone = load(tmp_path, without, norm="batch")
    assert backbone.trunk.bn1.num_batches_tracked == 0


def test_mobilenet_file(tmp_path, mobilenet):
    assert_holds(load(tmp_path, mobilenet, "mobilenet_v2"), mobilenet)


def test_mobilenet_file_of_features_alone(tmp_path, mobilenet):
    features = {
        key.removeprefix("features."): value
        for key, value in mobilenet.items()
        if key.startswith("features.")
    }
    assert_holds(load(tmp_path, features, "mobilenet_v2"), mobilenet)


def test_mobilenet_file_of_the_shared_folder(shared_dir):
    path = shared_dir / "weights" / "mobilenet_v2_imagenet_features.pth"
    if not path.is_file():
        pytest.skip("no MobileNetV2 weights in the shared folder")
    backbone = Backbone("mobilenet_v2", out_channels=8)
    load_backbone_weights(backbone, "mobilenet_v2", str(path))
    given = torch.load(path, weights_only=True)
    assert backbone.trunk.features[18][0].weight.equal(given["features.18.0.weight"])


def test_pyramid_stays_as_it_is(tmp_path, resnet18):
    torch.manual_seed(1)
    expected = Backbone("resnet18", out_channels=8).fpn.state_dict()
    torch.manual_seed(1)
    found = load(tmp_path, resnet18).fpn.state_dict()
    assert all(found[key].equal(value) for key, value in expected.items())


def test_weights_stay_frozen(tmp_path, resnet18):
    backbone = load(tmp_path, resnet18)
    assert not backbone.trunk.conv1.weight.requires_grad
    assert backbone.trunk.layer2[0].conv1.weight.requires_grad


def test_imagenet_weights_are_torchvisions_first_version(monkeypatch, resnet18):
    asked = {}

    def load(url, **options):
        asked[url] = options
        return resnet18

    for name, url in IMAGENET_WEIGHTS.items():
        assert url == torchvision.models.get_model_weights(name)["IMAGENET1K_V1"].url
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", load)
    backbone = Backbone("resnet18", out_channels=8)
    load_backbone_weights(backbone, "resnet18", "imagenet")
    assert_holds(backbone, resnet18)
    assert asked[IMAGENET_WEIGHTS["resnet18"]]["check_hash"]


def test_no_imagenet_weights_for_the_smallest_resnet():
    with pytest.raises(ValueError, match="no ImageNet weights for 'resnet10'"):
        load_backbone_weights(Backbone("resnet10", out_channels=8), "resnet10", "imagenet")


def test_build_loads_them(tmp_path, resnet18, build_small):
    torch.save(resnet18, tmp_path / "resnet18.pth")
    model = build_small(
        backbone="resnet18", backbone_norm="frozen", backbone_weights=str(tmp_path / "resnet18.pth")
    )
    assert_holds(model.backbone, resnet18)


def named_keys(message):
    """The keys that a message calls wrong."""
    return re.findall(r"key '([^']+)'", message.split(" do not fit the trunk of ")[1])


@pytest.mark.parametrize("key", ["conv1.weight", "bn1.running_var", "layer4.1.conv2.weight"])
def test_missing_key_is_named(tmp_path, hollow_resnet18, key):
    rest = {name: value for name, value in hollow_resnet18.items() if name != key}
    assert named_keys(assert_refused(re.escape(f"missing key {key!r}"), tmp_path, rest)) == [key]


@pytest.mark.parametrize("key", ["features.0.0.weight", "features.18.0.weight"])
def test_missing_mobilenet_key_is_named(tmp_path, mobilenet, key):
    rest = {name: value for name, value in mobilenet.items() if name != key}
    said = assert_refused(re.escape(f"missing key {key!r}"), tmp_path, rest, "mobilenet_v2")
    assert named_keys(said) == [key]


@pytest.mark.parametrize("key", ["layer4.2.conv1.weight", "something"])
def test_surplus_key_is_named(tmp_path, hollow_resnet18, key):
    given = {**hollow_resnet18, key: torch.zeros(1)}
    assert named_keys(assert_refused(re.escape(f"surplus key {key!r}"), tmp_path, given)) == [key]


@pytest.mark.parametrize("key", ["conv1.weight", "layer1.0.bn2.running_mean"])
def test_misshapen_key_is_named(tmp_path, hollow_resnet18, key):
    given = {**hollow_resnet18, key: torch.zeros(2, 2)}
    assert named_keys(assert_refused(re.escape(f"misshapen key {key!r}"), tmp_path, given)) == [key]


def test_weights_of_another_trunk(tmp_path, mobilenet):
    assert_refused("do not fit the trunk of resnet18", tmp_path, mobilenet)


def test_batch_norm_weights_do_not_fit_group_norm(tmp_path, hollow_resnet18):
    assert_refused(r"surplus key .*running_mean", tmp_path, hollow_resnet18, norm="group")


def test_missing_file_is_named(build_small):
    with pytest.raises(ValueError, match=r"absent\.pth"):
        build_small(backbone_weights="absent.pth")


@pytest.mark.parametrize("content", [[1, 2], 7, {"conv1.weight": 7}, torch.zeros(3)])
def test_file_of_something_else_is_refused(tmp_path, content):
    assert_refused("weights", tmp_path, content)
