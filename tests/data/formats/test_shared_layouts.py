"""Data sets exported by real tools: every file, size, box, label and class."""

import json
from pathlib import Path

import numpy as np
import pytest

from sparse_rcnn.data import load_dataset

LAYOUTS = (
    *("coco_images_folder", "crowdhuman", "cvat_coco", "label_studio_coco", "lvis_v1", "roboflow_coco"),
    *("roboflow_voc", "roboflow_yolo", "voc_from_zero", "voc_nested", "voc_webp"),
)


def found_in(root: Path, split: str) -> tuple[list[str], dict[str, tuple]]:
    """The classes, and by file the size and the sorted boxes with their class."""
    data = load_dataset(root, split)
    images = {}
    for index, path in enumerate(data.image_paths):
        image, target = data[index]
        assert image.shape[1:] == data.image_sizes[index]
        labels = [data.class_names[label] for label in target.labels.tolist()]
        boxes = sorted(zip(target.boxes.tolist(), labels, strict=True))
        images[Path(path).relative_to(root).as_posix()] = (data.image_sizes[index], boxes)
    return data.class_names, images


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.filterwarnings("ignore::sparse_rcnn.data.DatasetRemark")
def test_what_is_read_is_what_is_written(shared_dir: Path, name: str) -> None:
    root = shared_dir / "cases" / "layouts" / name
    expected = json.loads((root / "expected.json").read_text())
    for split, images in expected["splits"].items():
        parts = [found_in(root, part) for part in (("train", "val") if split == "all" else (split,))]
        assert all(classes == expected["classes"] for classes, _ in parts)
        found = {file: image for _, part in parts for file, image in part.items()}
        assert sum(len(part) for _, part in parts) == len(images)
        assert found.keys() == {image["file"] for image in images}
        for image in images:
            size, boxes = found[image["file"]]
            assert list(size) == image["size"]
            wanted = sorted(zip(image["boxes"], image["labels"], strict=True))
            assert [label for _, label in boxes] == [label for _, label in wanted]
            corners = [np.reshape([box for box, _ in part], (-1, 4)) for part in (boxes, wanted)]
            assert np.abs(corners[0] - corners[1]).max(initial=0) < 1e-4


def test_the_list_is_whole(shared_dir: Path) -> None:
    there = {folder.name for folder in (shared_dir / "cases" / "layouts").iterdir() if folder.is_dir()}
    assert there == {*LAYOUTS}
