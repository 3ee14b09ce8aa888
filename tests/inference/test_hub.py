"""A detector on a model hub: upload and download."""

import json

import pytest
from inference_cases import assert_same

from sparse_rcnn import load_detector
from sparse_rcnn.inference import from_pretrained


def test_what_is_pushed_is_what_is_loaded(detector, photo, tmp_path, monkeypatch):
    hub = pytest.importorskip("huggingface_hub")
    store = tmp_path / "store"

    class Api:
        def create_repo(self, repo_id, private, exist_ok):
            assert (repo_id, private, exist_ok) == ("me/cats", True, True)
            return f"https://hub/{repo_id}"

        def upload_folder(self, repo_id, folder_path, commit_message):
            folder_path.rename(store)
            folder_path.mkdir()

    def snapshot_download(repo_id, revision, allow_patterns):
        assert (repo_id, revision) == ("me/cats", "v1")
        assert allow_patterns == ["model.safetensors", "config.json"]
        return str(store)

    monkeypatch.setattr(hub, "HfApi", Api)
    monkeypatch.setattr(hub, "snapshot_download", snapshot_download)
    found = detector(photo, threshold=0.0)
    metrics = {"AP": 0.1234, "AP50": 0.5, "AP/cat": 0.2}
    url = detector.push_to_hub("me/cats", metrics=metrics, picture=found.draw(), private=True)
    assert url == "https://hub/me/cats"
    assert sorted(path.name for path in store.iterdir()) == [
        *("README.md", "config.json", "example.png", "model.safetensors")
    ]
    card = (store / "README.md").read_text()
    for part in ("# me/cats", "cat, dog, bird", "| AP | 0.123 |", "shortest side of 96", "example.png"):
        assert part in card
    assert "AP/cat" not in card
    assert_same(from_pretrained("me/cats", revision="v1", device="cpu")(photo, threshold=0.0), found)


def test_a_config_beside_bare_weights_counts_and_one_that_contradicts_is_refused(detector, photo, tmp_path):
    safetensors = pytest.importorskip("safetensors.torch")
    detector.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "class_names": ["cat", "dog", "fish"]}))
    with pytest.raises(ValueError, match=r"config\.json has another class_names than the checkpoint"):
        load_detector(tmp_path)
    weights = safetensors.load_file(tmp_path / "model.safetensors")
    safetensors.save_file(weights, tmp_path / "model.safetensors")
    with pytest.warns(UserWarning, match="has no digest"):
        again = load_detector(tmp_path, "cpu")
    assert again.class_names == ["cat", "dog", "fish"]
    assert_same(again(photo, threshold=0.0), detector(photo, threshold=0.0))
