"""Checkpoint files: written and read in both formats, with a digest, and validated as a whole."""

import os
import re
import sys
import types
import zipfile

import numpy as np
import pytest
import torch
from small_model import build_small_model, random_batch
from torch import nn

from sparse_rcnn import build_sparse_rcnn
from sparse_rcnn.nn import (
    ImageSize,
    build_from_checkpoint,
    fold_norms,
    load_checkpoint,
    load_weights,
    read_checkpoint,
    save_checkpoint,
    to_mmdetection,
)

NAMES = ["a", "b", "c"]
SIZE = ImageSize(64, 96)


@pytest.fixture(scope="module")
def model():
    return build_small_model(backbone_norm="frozen").eval()


@pytest.fixture(scope="module", params=[".pth", ".safetensors"])
def file(request, model, tmp_path_factory):
    path = tmp_path_factory.mktemp("file") / f"mine{request.param}"
    save_checkpoint(path, model, NAMES, category_ids=[3, 5, 9], image_size=SIZE)
    return path


def content_of(source, **changes):
    return {"config": source.config.to_dict(), "model": source.state_dict(), "class_names": NAMES, **changes}


def written(path, content):
    torch.save(content, path)
    return path


def test_comes_back_as_it_was(model, file):
    checkpoint = load_checkpoint(file)
    assert checkpoint.config == model.config
    assert checkpoint.class_names == NAMES
    assert checkpoint.category_ids == [3, 5, 9]
    assert checkpoint.image_size == SIZE
    assert checkpoint.layout == "sparse_rcnn"
    assert checkpoint.remarks == []
    loaded = build_from_checkpoint(checkpoint)
    assert loaded.image_size == SIZE
    batch = random_batch(1, 64, 64)
    with torch.no_grad():
        assert loaded(*batch).logits.equal(model(*batch).logits)
    assert not list(file.parent.glob("*.tmp"))


@pytest.mark.parametrize("place", [0.3, 0.6, 0.9])
def test_a_flipped_bit_is_noticed(file, tmp_path, place):
    data = bytearray(file.read_bytes())
    data[int(place * len(data))] ^= 4
    path = tmp_path / f"flipped{file.suffix}"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=rf"^{re.escape(str(path))}: is damaged: .* digest"):
        load_checkpoint(path)


def test_a_flipped_bit_in_the_name_of_the_digest_is_noticed(file, tmp_path):
    data = file.read_bytes()
    for bit in range(5):  # the letter stays ASCII
        wrong = bytes([data[data.index(b"digest")] ^ 1 << bit]) + b"igest"
        path = tmp_path / f"flipped{file.suffix}"
        path.write_bytes(data.replace(b"digest", wrong, 1))
        with pytest.raises(ValueError, match="is damaged"):
            load_checkpoint(path)


def test_a_file_without_a_digest_gets_a_remark(model, tmp_path):
    path = written(tmp_path / "old.pth", content_of(model))
    remarks = " ".join(load_checkpoint(path).remarks)
    assert "has no digest" in remarks
    assert "has no image_size: the paper's 800 and 1333" in remarks
    bare = written(tmp_path / "bare.pth", build_small_model(num_heads=8).state_dict())
    assert "with 8 heads" in " ".join(load_checkpoint(bare).remarks)


CLASS_BIAS = "head.stages.1.class_logits.bias"


@pytest.mark.parametrize(
    ("entry", "value", "message"),
    [
        (CLASS_BIAS, torch.tensor([0, float("nan"), float("inf")]), "2 of 3 values that are not finite"),
        (CLASS_BIAS, torch.zeros(3, dtype=torch.int64), "must be floating point, got torch.int64"),
        (CLASS_BIAS, torch.zeros(3, dtype=torch.complex64), "dense tensor of real numbers"),
        (CLASS_BIAS, torch.zeros(3).to_sparse(), "a tensor that is not dense"),
        (CLASS_BIAS, torch.zeros(1).expand(10**12), "more than the whole file"),
        (CLASS_BIAS, "b", "is not a tensor but str"),
        ("backbone.trunk.bn1.running_var", -torch.ones(64), "is a variance and has negative values"),
        (7, torch.zeros(3), "entry 7 must have a name"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*parse.*")  # of torch, about sparse tensors
def test_a_bad_weight_is_named(model, tmp_path, entry, value, message):
    weights = {**model.state_dict(), entry: value}
    path = written(tmp_path / "bad.pth", content_of(model, model=weights))
    with pytest.raises(ValueError, match=rf"^{re.escape(str(path))}: .*{message}"):
        load_checkpoint(path)
    if "not finite" in message:
        with pytest.raises(ValueError, match=message):
            load_weights(build_small_model(backbone_norm="frozen"), weights)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"config": {"num_stages": 10**9}}, "num_stages must be at most 100"),
        ({"config": {"num_classes": "3"}}, "num_classes must be a whole number, got '3'"),
        ({"config": None}, "config must be a dict of options, got NoneType"),
        ({"config": {}}, r"does not fit the model of its config .*key"),
        ({"class_names": ["a"]}, "class_names has 1 names, but the model has 3 classes"),
        ({"class_names": "abc"}, "class_names must be a list of strings"),
        ({"category_ids": [1, 2, 2]}, "category_ids must be 3 different numbers"),
        ({"category_ids": [1, 2, "3"]}, "category_ids must be a list of whole numbers"),
        ({"image_size": 800}, "image_size must be a dict of shortest_side and longest_side"),
        (
            {"image_size": {"shortest_side": 10**9, "longest_side": 1}},
            "shortest_side must be a whole number of 1",
        ),
        ({"model": None}, "entry 'config' is not a tensor"),
    ],
)
def test_a_bad_field_is_named(model, tmp_path, changes, message):
    path = written(tmp_path / "bad.pth", content_of(model, **changes))
    with pytest.raises(ValueError, match=rf"^{re.escape(str(path))}: .*{message}"):
        load_checkpoint(path)


def test_what_cannot_be_loaded_again_is_not_written(model, tmp_path):
    path = tmp_path / "new.pth"
    with pytest.raises(ValueError, match="does not fit the model of its config"):
        save_checkpoint(path, fold_norms(model), NAMES)
    with pytest.raises(ValueError, match="class_names has 2 names"):
        save_checkpoint(path, model, ["a", "b"])
    by_hand = build_small_model()
    by_hand.config = None
    with pytest.raises(ValueError, match="the model has no config"):
        save_checkpoint(path, by_hand, NAMES)
    assert list(tmp_path.iterdir()) == []


def test_safetensors_that_is_not_installed_is_named(model, tmp_path, monkeypatch):
    path = tmp_path / "mine.safetensors"
    save_checkpoint(path, model, NAMES)
    monkeypatch.setitem(sys.modules, "safetensors", None)
    monkeypatch.setitem(sys.modules, "safetensors.torch", None)
    with pytest.raises(ImportError, match="pip install safetensors"):
        save_checkpoint(tmp_path / "more.safetensors", model, NAMES)
    with pytest.raises(ImportError, match=r"mine\.safetensors: needs safetensors"):
        load_checkpoint(path)


def test_mmdetections_own_files_are_read_without_what_else_they_hold(tmp_path, monkeypatch):
    """Files of version 3 have histories of losses: objects of mmengine with NumPy arrays."""
    model = build_small_model(backbone_norm="frozen", num_heads=8)
    module = types.ModuleType("mmengine.logging.history_buffer")

    class HistoryBuffer:
        def __init__(self):
            self.max_length, self._log_history = 1000, np.array([1.5, 2.5])

        def min(self):
            return self._log_history.min()

        def __getstate__(self):
            return {**self.__dict__, "statistics_methods": {"min": HistoryBuffer.min}}

    HistoryBuffer.__module__, HistoryBuffer.__qualname__ = module.__name__, "HistoryBuffer"
    HistoryBuffer.min.__module__, HistoryBuffer.min.__qualname__ = module.__name__, "HistoryBuffer.min"
    module.HistoryBuffer = HistoryBuffer
    content = {
        "state_dict": to_mmdetection(model.state_dict()),
        "meta": {"epoch": 12, "dataset_meta": {"CLASSES": tuple(NAMES)}},
        "message_hub": {"log_scalars": {"train/loss": HistoryBuffer()}, "best": np.float64(0.5)},
    }
    with monkeypatch.context() as patch:
        for name in ("mmengine", "mmengine.logging"):
            patch.setitem(sys.modules, name, types.ModuleType(name))
        patch.setitem(sys.modules, module.__name__, module)
        torch.save(content, tmp_path / "epoch_12.pth")
    checkpoint = load_checkpoint(tmp_path / "epoch_12.pth")
    assert checkpoint.layout == "mmdetection"
    assert checkpoint.class_names == NAMES
    loaded = build_from_checkpoint(checkpoint).state_dict()
    assert all(value.equal(loaded[key]) for key, value in model.state_dict().items())


def test_an_object_that_is_refused_is_named_with_the_way_out(tmp_path):
    path = written(tmp_path / "code.pth", {"model": {}, "meta": types.SimpleNamespace(a=1)})
    with pytest.raises(ValueError, match=r"holds a types\.SimpleNamespace object.*if you trust"):
        read_checkpoint(path)


def test_compressed_archives_and_pipes_are_refused(tmp_path):
    written(tmp_path / "plain.pth", {"a": torch.zeros(10**6)})
    with (
        zipfile.ZipFile(tmp_path / "plain.pth") as plain,
        zipfile.ZipFile(tmp_path / "small.pth", "w", zipfile.ZIP_DEFLATED) as small,
    ):
        for name in plain.namelist():
            small.writestr(name, plain.read(name))
    with pytest.raises(ValueError, match=r"small\.pth: .*is compressed"):
        read_checkpoint(tmp_path / "small.pth")
    os.mkfifo(tmp_path / "pipe.pth")
    with pytest.raises(ValueError, match=r"pipe\.pth: not a regular file"):
        read_checkpoint(tmp_path / "pipe.pth")


def test_in_four_lines_a_model_of_the_hub(model, tmp_path):
    hub = pytest.importorskip("huggingface_hub")

    class HubDetector(nn.Module, hub.PyTorchModelHubMixin):
        def __init__(self, **options):
            super().__init__()
            self.model = build_sparse_rcnn(**options, backbone_weights=None)

    there = HubDetector(**model.config.to_dict())
    there.model.load_state_dict(model.state_dict())
    there.save_pretrained(tmp_path)
    back = HubDetector.from_pretrained(tmp_path)
    assert back.model.config == model.config
    assert all(value.equal(back.model.state_dict()[key]) for key, value in model.state_dict().items())
