"""The description of a data set before training, and its conversion to another format."""

import re
import shutil
from pathlib import Path

import layout_exports as exports
import numpy as np
import pytest
from layout_exports import CLASSES, IMAGES
from torchvision.datasets import VOCDetection

from sparse_rcnn.data import (
    DetectionDataset,
    VocDetection,
    crowded_images,
    dataset_remarks,
    describe_dataset,
    load_dataset,
    write_dataset,
)
from sparse_rcnn.data.formats.writers import WRITERS


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("data")
    exports.coco_plain(directory)
    return directory


def both(root: Path) -> dict[str, DetectionDataset]:
    return {split: load_dataset(root, split) for split in ("train", "val")}


def of_boxes(root: Path, boxes: list[list[float]], class_names: list[str] = CLASSES) -> DetectionDataset:
    """One image, 60 x 40 px, with these boxes as xyxy."""
    return DetectionDataset.from_boxes([root / "images/a1.png"], [boxes], [[0] * len(boxes)], class_names)


def test_the_table_counts(root: Path) -> None:
    lines = describe_dataset(both(root)).splitlines()
    text = "\n".join(" ".join(line.split()) for line in lines)
    for row in (
        "images 3 2",
        "without boxes 1 0",
        "boxes 3 4",
        "in an image: median, most 1, 2 2, 3",
        "cat 1 2",
        "dog 1 1",
        "owl 1 1",
    ):
        assert f"\n{row}\n" in f"{text}\n"
    assert "remark" not in text


def test_crowded_images_are_named_with_the_numbers(root: Path) -> None:
    val = load_dataset(root, "val")
    assert crowded_images(val, 2) == (1, 3, 1, str(root / "images/b1.png"))
    assert crowded_images(val, 3).num_images == 0
    assert dataset_remarks({"val": val}, num_proposals=3) == []
    (remark,) = dataset_remarks({"val": val}, num_proposals=2)
    assert remark.startswith("val: 1 of 2 images have more objects than the 2 proposals, up to 3 (")
    assert "b1.png). In each step with such an image, only 2 of its objects are matched: 1 of 4" in remark
    assert remark.endswith("--num-proposals 3 has room for all")


def test_what_looks_wrong_is_said(root: Path) -> None:
    faults = {
        "all coordinates are below 1: are they fractions": [[0.1, 0.2, 0.3, 0.9], [0.5, 0.5, 1, 1]],
        "the median box is 1.5 px wide or high": [[1, 1, 2.5, 30], [3, 3, 9, 4.5], [9, 9, 30, 30]],
        "1 box has a side below 2 px, the smallest 0.5 px": [
            [1, 1, 1.5, 30],
            [3, 3, 9, 9],
            [9, 9, 30, 30],
        ],
        # Corners (20, 10, 50, 35) and the like, read as x, y, width, height.
        "2 boxes leave their image and are clipped (100%); as corners (xyxy), all would fit": [
            [20, 10, 20 + 50, 10 + 35],
            [30, 20, 30 + 59, 20 + 39],
        ],
        "2 boxes are copies of another box of the same class and image, such as in ": [
            *([1, 1, 30, 30], [1, 1, 30, 31], [1, 1, 30, 30], [1, 1, 30, 30])
        ],
        "there is no box to learn from": [],
    }
    for said, boxes in faults.items():
        remarks = dataset_remarks({"train": of_boxes(root, boxes, ["cat"])})
        assert any(said in remark for remark in remarks), (said, remarks)
    place = [1, 1, 30, 30]
    of_two = DetectionDataset.from_boxes(
        [root / "images/a1.png"] * 2, [[place, place], [place]], [[0, 1], [0]], CLASSES
    )
    assert not any(
        "copies" in remark for remark in dataset_remarks({"val": of_two})
    )  # of two classes and images
    sound = of_boxes(root, [[1, 1, 30, 30], [3, 3, 60, 40]], ["cat", "dog"])
    assert dataset_remarks({"val": sound}) == ["val: 1 of 2 classes have no box: dog"]
    spelled = of_boxes(root, [[1, 1, 30, 30]], ["red cell", "dog", "Red_cell"])
    (remark, _) = dataset_remarks({"val": spelled})
    assert remark.startswith(
        "val: the classes 'red cell' and 'Red_cell' differ in spelling only: if they are one"
    )


def test_areas_that_a_tool_left_at_0_are_said(root: Path, tmp_path: Path) -> None:
    shutil.copytree(root, tmp_path / "copy")
    file = tmp_path / "copy/val.json"
    file.write_text(re.sub(r'"area": [\d.]+', '"area": 0', file.read_text()))
    remarks = dataset_remarks(both(tmp_path / "copy"))
    assert [r for r in remarks if "'area' 0" in r] == [
        "val: 4 boxes have 'area' 0 in the file: figures by size (APs, APm, APl) take them as small"
    ]


def test_equal_contents_in_two_splits_are_found(root: Path, tmp_path: Path) -> None:
    shutil.copytree(root, tmp_path / "copy")
    images = tmp_path / "copy/images"
    shutil.copy(images / "a1.png", images / "b1.png")  # of another name, and of the same size in pixels
    found = [remark for remark in dataset_remarks(both(tmp_path / "copy")) if "equal contents" in remark]
    assert len(found) == 1
    assert found[0].startswith("1 image is in train and in val with equal contents, such as ")
    assert "a1.png" in found[0]
    assert "b1.png" in found[0]


@pytest.mark.parametrize("format", ["coco", "yolo", "voc"])
def test_conversion_loses_nothing(tmp_path: Path, format: str) -> None:
    rng = np.random.default_rng(0)
    pictures = []
    for picture in IMAGES[:3]:
        exports.draw(tmp_path / "in" / f"{picture.stem}.jpg", picture)
        pictures.append(tmp_path / "in" / f"{picture.stem}.jpg")
    corners = rng.uniform(-0.9, 19, (3, 4, 2, 2)).cumsum(axis=2).reshape(3, 4, 4)
    corners[..., 2:] += 3
    labels = rng.integers(0, 3, (3, 4))
    labels[0, :3] = range(3)
    before = DetectionDataset.from_boxes(pictures, corners.tolist(), labels.tolist(), CLASSES)
    assert write_dataset({"train": before, "val": before}, tmp_path / format, format) == []
    for split in ("train", "val"):
        after = load_dataset(tmp_path / format, split)
        assert after.class_names == before.class_names
        assert [Path(path).name for path in after.image_paths] == ["a1.jpg", "a2.jpg", "a3.jpg"]
        for (image, target), (written, found) in zip(before, after, strict=True):
            assert (image == written).all()
            assert (target.boxes - found.boxes).abs().max() < 1e-5
            assert (target.labels == found.labels).all()
        np.testing.assert_allclose(
            after.annotations.written_boxes, before.annotations.written_boxes, atol=1e-9
        )
    with pytest.raises(ValueError, match="is there and not empty; give a new folder"):
        write_dataset({"train": before}, tmp_path / format, format)
    with pytest.raises(ValueError, match=r"must be one of \['coco', 'yolo', 'voc'\], got 'csv'"):
        write_dataset({"train": before}, tmp_path / "csv", "csv")


def coco_of(data: DetectionDataset) -> dict[str, list]:
    """By image: its size and its objects, without ids."""
    truth = data.coco_ground_truth()
    names = {entry["id"]: entry["name"] for entry in truth["categories"]}
    found = {
        entry["id"]: (entry["file_name"], entry["height"], entry["width"], []) for entry in truth["images"]
    }
    for entry in truth["annotations"]:
        box = [round(side, 6) for side in entry["bbox"]]
        found[entry["image_id"]][3].append((names[entry["category_id"]], box, entry["iscrowd"]))
    return {name: [*size, sorted(objects)] for name, *size, objects in found.values()}


@pytest.mark.filterwarnings("ignore::sparse_rcnn.data.DatasetRemark")
def test_coco_there_and_back(shared_dir: Path, tmp_path: Path) -> None:
    """Real COCO images with crowds and outlines through YOLO and VOC. Remarks name what a format loses."""
    before = load_dataset(shared_dir / "data/coco_mini", "val")
    assert before.num_crowd == 12
    remarks = {format: write_dataset({"val": before}, tmp_path / format, format) for format in WRITERS}
    outlines = [re.search(r"val: (\d+) (areas|boxes have)", said[0]) for said in remarks.values()]
    assert {match[1] for match in outlines if match} == {"855"}
    assert remarks["coco"] == [
        "val: 855 boxes have an area of an outline: the area is written, outlines are not"
    ]
    renumbered = "val: ids of images and classes are numbered anew: the format has none"
    assert remarks["yolo"][1:] == [renumbered, "val: 12 ignored regions are left out: YOLO has none"]
    assert remarks["voc"][1:3] == [
        renumbered,
        "val: classes come back in the order of the alphabet: VOC has no list of them",
    ]
    wanted = coco_of(before)
    for format in WRITERS:
        once = load_dataset(tmp_path / format, "val")
        write_dataset({"val": once}, tmp_path / f"{format}_coco", "coco")
        expected = {
            name: [*size, [one for one in objects if format != "yolo" or not one[2]]]
            for name, (*size, objects) in wanted.items()
        }
        assert coco_of(once) == coco_of(load_dataset(tmp_path / f"{format}_coco", "val")) == expected
    # VOC's own readers take it: ours, and torchvision's
    ours = VocDetection(tmp_path / "voc", "val")
    assert coco_of(ours) == wanted
    (tmp_path / "VOCdevkit").mkdir()
    (tmp_path / "voc").rename(tmp_path / "VOCdevkit/VOC2012")
    theirs = VOCDetection(tmp_path, year="2012", image_set="val")
    assert len(theirs) == len(before)
    for (image, page), name in zip(theirs, ours.image_names, strict=True):
        objects = page["annotation"].get("object", [])
        assert page["annotation"]["filename"] == f"{name}.jpg"
        assert [image.height, image.width] == wanted[f"{name}.jpg"][:2]
        assert sorted(item["name"] for item in objects) == [one[0] for one in wanted[f"{name}.jpg"][2]]
