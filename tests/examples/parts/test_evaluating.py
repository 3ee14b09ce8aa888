import re
from pathlib import Path

import pytest
import torch
from evaluate import names_of

from sparse_rcnn.data import ShapesDataset, UnreadableImageError, evaluate_coco
from sparse_rcnn.inference import detect_dataset, refuse_not_finite

CPU = torch.device("cpu")


def detect(images, image_sizes):
    """Finds one box of each label, in the middle of each image."""
    boxes = torch.tensor([[20.0, 20, 60, 60], [10.0, 10, 90, 90]]).expand(len(images), 2, 4)
    return boxes, torch.tensor([0.9, 0.5]).expand(len(images), 2), torch.tensor([0, 1]).expand(len(images), 2)


@pytest.fixture
def dataset(tmp_path):
    return ShapesDataset(tmp_path, "val", 5)


def test_unreadable_images_are_left_out_named_and_counted(dataset):
    whole = detect_dataset(detect, dataset, CPU, batch_size=2)
    broken = dataset.image_paths[2]
    content = Path(broken).read_bytes()
    Path(broken).write_bytes(content[: len(content) // 2])
    with pytest.raises(UnreadableImageError, match=f"^{re.escape(broken)}: cannot be read"):
        detect_dataset(detect, dataset, CPU, batch_size=2)
    unreadable = {}
    results = detect_dataset(detect, dataset, CPU, batch_size=2, unreadable=unreadable)
    assert [*unreadable] == [dataset.image_ids[2]]
    assert unreadable[dataset.image_ids[2]].startswith(f"{broken}: cannot be read")
    assert results == [one for one in whole if one["image_id"] != dataset.image_ids[2]]
    readable = [image for image in dataset.image_ids if image not in unreadable]
    assert evaluate_coco(dataset, results, image_ids=readable)["AR100"] >= 0
    only = detect_dataset(detect, dataset, CPU, unreadable={}, category_ids=[None, 7])
    assert {one["category_id"] for one in only} == {7}


@pytest.mark.parametrize("part", [0, 1])
def test_figures_that_are_not_finite_are_an_error_that_names_image_and_checkpoint(dataset, part):
    def diverged(images, image_sizes):
        found = list(detect(images, image_sizes))
        found[part] = torch.full_like(found[part], [float("nan"), 0.0][part])  # a NaN scores 0
        return tuple(found)

    with pytest.raises(ValueError, match=f"^{re.escape(dataset.image_paths[0])}: .* weights in last.pth"):
        detect_dataset(refuse_not_finite(diverged, "last.pth"), dataset, CPU)
    assert len(detect_dataset(refuse_not_finite(detect, "last.pth"), dataset, CPU)) == 10


def test_a_report_names_files_and_folders(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert names_of(".", None) == [tmp_path.name]
    assert names_of("a/best.pth", "b/last.pth") == ["best.pth", "last.pth"]
    assert names_of("best.pth", "b/best.pth") == [f"{tmp_path.name}/best.pth", "b/best.pth"]
