"""Files that supervision reads, and files that Datumaro writes: the boxes are the same as ours."""

import warnings
from pathlib import Path
from typing import Any

import layout_exports as exports
import numpy as np
import pytest
from PIL import Image

from sparse_rcnn.data import DetectionDataset, load_dataset

pytestmark = pytest.mark.filterwarnings("ignore::sparse_rcnn.data.DatasetRemark")
Boxes = dict[str, tuple[tuple[int, int], list[tuple[str, list[float]]]]]
# The folder, its split, and where supervision looks for images, annotations and more.
SETS = {
    "from_coco": ("cases/layouts/roboflow_coco", "train", "train", "train/_annotations.coco.json"),
    "from_pascal_voc": ("cases/layouts/roboflow_voc", "train", "train", "train"),
    "from_yolo": ("cases/layouts/roboflow_yolo", "train", "train/images", "train/labels", "data.yaml"),
    "from_labelme": ("labelme", "train", "train/images", "train/annotations"),
    "from_createml": ("createml", "train", "train", "train/_annotations.createml.json"),
}


def ours(data: DetectionDataset) -> Boxes:
    """By name of the file: its size, and its boxes as written, without ignored regions."""
    columns = data.annotations
    corners = columns.written_boxes.copy()
    corners[:, 2:] += corners[:, :2]
    found: Boxes = {}
    for index, path in enumerate(data.image_paths):
        rows = np.flatnonzero((columns.image_indices == index) & ~columns.is_crowd)
        names = [data.class_names[label] for label in columns.labels[rows].tolist()]
        boxes = sorted(zip(names, corners[rows].tolist(), strict=True))
        found[Path(path).name] = (data.image_sizes[index], boxes)
    return found


def theirs(data: Any) -> Boxes:
    found: Boxes = {}
    for path, detections in data.annotations.items():
        crowd = detections.data.get("iscrowd", np.zeros(len(detections)))
        rows = [
            (data.classes[label], box)
            for label, box, ignored in zip(detections.class_id, detections.xyxy.tolist(), crowd, strict=True)
            if not ignored
        ]
        with Image.open(path) as image:
            found[Path(path).name] = ((image.height, image.width), sorted(rows))
    return found


@pytest.mark.parametrize("reader", SETS)
def test_supervision_reads_the_same(shared_dir: Path, tmp_path: Path, reader: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that OpenCV is not there
        supervision = pytest.importorskip("supervision")
    if not hasattr(supervision.DetectionDataset, reader):
        pytest.skip(f"this supervision has no {reader}")
    folder, split, *places = SETS[reader]
    root = shared_dir / folder
    if "/" not in folder:
        getattr(exports, folder)(root := tmp_path)
    other = getattr(supervision.DetectionDataset, reader)(*(str(root / place) for place in places))
    found = ours(load_dataset(root, split))
    wanted = theirs(other)
    assert found.keys() == wanted.keys()
    for name, (size, boxes) in wanted.items():
        assert found[name][0] == size
        assert [label for label, _ in found[name][1]] == [label for label, _ in boxes]
        corners = [np.reshape([box for _, box in part], (-1, 4)) for part in (found[name][1], boxes)]
        np.testing.assert_allclose(corners[0], corners[1], atol=2e-3)  # YOLO's have few decimals


@pytest.mark.parametrize(
    "format", ["coco_instances", "voc_detection", "yolo", "yolo_ultralytics", "cvat", "open_images"]
)
def test_what_datumaro_exports_is_read_the_same(shared_dir: Path, tmp_path: Path, format: str) -> None:
    datumaro = pytest.importorskip("datumaro")
    root = shared_dir / "cases/layouts/coco_images_folder"
    other = datumaro.Dataset.import_from(str(root), "coco_instances")
    val = "valid" if format == "yolo" else "val"
    other = other.transform("map_subsets", mapping={"train2017": "train", "val2017": val})
    other.export(str(tmp_path / "out"), format, save_media=True)
    for split in ("train", "val"):
        found, wanted = (ours(load_dataset(folder, split)) for folder in (tmp_path / "out", root))
        assert found.keys() == wanted.keys()
        for name, (size, boxes) in wanted.items():
            assert found[name][0] == size
            assert [label for label, _ in found[name][1]] == [label for label, _ in boxes]
            corners = [np.reshape([box for _, box in part], (-1, 4)) for part in (found[name][1], boxes)]
            np.testing.assert_allclose(corners[0], corners[1], atol=0.01)
