import pickle
import re

import pytest
import torch

from sparse_rcnn.nn import read_checkpoint


def test_reads_tensors_and_plain_data(tmp_path):
    checkpoint = {
        "model": {"a": torch.arange(3)},
        "config": {"num_classes": 3},
        "names": ["x", "y"],
        "epoch": 1,
    }
    torch.save(checkpoint, tmp_path / "checkpoint.pth")
    found = read_checkpoint(tmp_path / "checkpoint.pth")
    assert found.pop("model")["a"].tolist() == [0, 1, 2]
    checkpoint.pop("model")
    assert found == checkpoint


@pytest.mark.parametrize("kind", [str, lambda path: path])
def test_path_or_string(tmp_path, kind):
    torch.save({"a": torch.arange(3)}, tmp_path / "checkpoint.pth")
    assert read_checkpoint(kind(tmp_path / "checkpoint.pth"))["a"].tolist() == [0, 1, 2]


def test_missing_file_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"absent\.pth"):
        read_checkpoint(tmp_path / "absent.pth")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not a checkpoint",
        b"PK\x03\x04 and nothing",
        b"\x80\x02}",
        b"\x89PNG\r\n\x1a\n" + bytes(100),
        bytes(1000),
        b'{"conv1.weight": 1}',
        b"<html>404</html>",
        pickle.dumps({"conv1.weight": 1}, protocol=2)[:-4],
        bytes(range(256)),
        b"\x80",
        b"\x80\x02}q\x00X",
        b"\x80\x02h\x07.",
    ],
    ids=[
        "empty",
        "text",
        "zip",
        "pickle",
        "png",
        "zeros",
        "json",
        "html",
        "short",
        "bytes",
        "one byte",
        "cut length",
        "no memo",
    ],
)
def test_garbage_is_named(tmp_path, content):
    path = tmp_path / "garbage.pth"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"garbage\.pth: .*[a-z]{4}") as told:
        read_checkpoint(path)
    assert not re.search(r": \d+$", str(told.value))  # a byte is no reason


@pytest.mark.parametrize("part", [0.0, 0.02, 0.2, 0.5, 0.99])
@pytest.mark.parametrize("zipped", [True, False])
def test_truncated_file_is_named(tmp_path, part, zipped):
    path = tmp_path / "truncated.pth"
    torch.save({"conv1.weight": torch.rand(1000)}, path, _use_new_zipfile_serialization=zipped)
    content = path.read_bytes()
    path.write_bytes(content[: int(part * len(content))])
    with pytest.raises(ValueError, match=r"truncated\.pth"):
        read_checkpoint(path)


def test_directory_is_named(tmp_path):
    with pytest.raises(ValueError, match=re.escape(str(tmp_path))):
        read_checkpoint(tmp_path)


class Code:
    """Unpickling this creates a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


def test_code_in_a_file_is_refused_and_not_run(tmp_path):
    torch.save({"conv1.weight": Code(str(tmp_path / "proof"))}, tmp_path / "code.pth")
    with pytest.raises(ValueError, match=r"code\.pth"):
        read_checkpoint(tmp_path / "code.pth")
    assert not (tmp_path / "proof").exists()
