"""COCO files as tools write them. Clear deviations are read, with a remark."""

import json
from pathlib import Path

import numpy as np
import pytest
from layout_exports import CLASSES, IMAGES, coco, contents, draw, expected
from pycocotools import mask

from sparse_rcnn.data import DatasetRemark, load_dataset

pytestmark = pytest.mark.filterwarnings("ignore::sparse_rcnn.data.DatasetRemark")


def polygon(entry: dict) -> None:
    x, y, width, height = entry.pop("bbox")
    entry["segmentation"] = [[x, y, x + width, y, x + width, y + height, x, y + height]]


def zeros(entry: dict) -> None:
    polygon(entry)
    entry.update(bbox=[0, 0, 0, 0.0], area=0)


def run_lengths(entry: dict) -> None:
    x, y, width, height = entry.pop("bbox")
    pixels = np.zeros(IMAGES[entry["image_id"]].size, dtype=np.uint8, order="F")
    pixels[y : y + height, x : x + width] = 1
    encoded = mask.encode(pixels)
    entry["segmentation"] = {"size": encoded["size"], "counts": encoded["counts"].decode()}


# A change of each entry of a section, and the remark on it.
ODD = {
    "text": ("images", lambda e: e.update(id=str(e["id"])), r"'id' is not written as an integer \(5, .* '0'"),
    "float": ("annotations", lambda e: e.update(image_id=float(e["image_id"])), r"'image_id' is not written"),
    "names": ("images", lambda e: e.update(width=None, height=0), "no size: their headers are asked"),
    "no id": ("annotations", lambda e: e.pop("id"), "have no number as id: they are counted"),
    "same id": ("annotations", lambda e: e.update(id=3), r"same id: all are numbered anew \(6, such as 3\)"),
    "text box": ("annotations", lambda e: e.update(bbox=[*map(str, e["bbox"])]), "boxes are text"),
    "polygon": ("annotations", polygon, "no bbox: the box around the segmentation"),
    "zeros": ("annotations", zeros, r"no bbox: the box around the segmentation is taken \(7, such as 0\)"),
    "mask": ("annotations", run_lengths, "no bbox: the box around the segmentation"),
    "null": ("annotations", lambda e: e.update(area=None, iscrowd=None), None),
    "spaces": ("categories", lambda e: e.update(name=f" {e['name']} "), None),
    "url": ("images", lambda e: e.update(file_name=f"https://h.io/a/{e['file_name']}?s=1"), "found by name"),
    "suffix": (
        "images",
        lambda e: e.update(file_name=e["file_name"][:-3] + "JPEG"),
        "5 of them",
    ),
}


@pytest.mark.parametrize(("section", "change", "said"), ODD.values(), ids=ODD)
def test_odd_writings_are_read(tmp_path: Path, section, change, said) -> None:
    found = json.loads(coco(IMAGES, lambda picture: f"{picture.stem}.jpg"))
    for entry in found[section]:
        change(entry)
    (tmp_path / "labels.json").write_text(json.dumps(found))
    for picture in IMAGES:
        draw(tmp_path / "images" / f"{picture.stem}.jpg", picture)
    data = load_dataset(tmp_path, val_share=0)
    assert contents(data) == expected("train", "val")
    assert data.class_names == CLASSES
    if said:
        with pytest.warns(DatasetRemark, match=said):
            load_dataset(tmp_path, val_share=0)


def test_what_is_there_twice_is_one_and_broken_entries_are_left_out(tmp_path: Path) -> None:
    found = json.loads(coco(IMAGES, lambda picture: f"{picture.stem}.jpg"))
    for entry in found["images"]:
        entry["id"] = f"image {entry['id']}"
    for entry in found["annotations"]:
        entry["image_id"] = f"image {entry['image_id']}"
    found["images"] += [found["images"][0], {**found["images"][0], "id": "again"}]
    found["annotations"] += [{**entry, "image_id": "again"} for entry in found["annotations"][:1]]
    found["categories"].append({"id": 9, "name": "cat"})
    found["annotations"][0]["category_id"] = 9
    for picture in IMAGES:
        draw(tmp_path / f"{picture.stem}.jpg", picture)
    file = tmp_path / "labels.json"
    file.write_text(json.dumps(found))
    data = load_dataset(tmp_path, val_share=0)
    assert contents(data) == expected("train", "val")
    assert data.class_names == CLASSES

    broken = {**found["annotations"][0], "id": 70, "image_id": "image 1", "bbox": [1, 2, 3]}
    found["annotations"].append({**broken, "image_id": "gone", "bbox": [1, 2, 3, 4]})
    file.write_text(json.dumps(found))
    with pytest.raises(ValueError, match=r"annotation 70: image_id gone is not among 'images'"):
        load_dataset(tmp_path)
    found["annotations"][-1:] = [
        {**broken, "image_id": "gone", "category_id": 99, "bbox": [1, 2, 3, 4]},
        broken,
    ]
    file.write_text(json.dumps(found))
    with pytest.raises(ValueError, match=r"annotation 70: field 'bbox' must be"):
        load_dataset(tmp_path)
    for box in ([1, 2, 3], [1, 2, -3, 4], [1, 2, "three", 4]):
        found["annotations"][-1]["bbox"] = box
        file.write_text(json.dumps(found))
        with pytest.raises(ValueError, match="annotation"):
            load_dataset(tmp_path)
        kept = load_dataset(tmp_path, val_share=0, leave_out_broken=True)
        wanted = expected("train", "val")
        wanted.pop("a2")
        assert contents(kept) == wanted
