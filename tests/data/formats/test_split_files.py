"""Several annotation files that claim one split: none is left out in silence."""

import shutil
from collections.abc import Callable
from pathlib import Path

import layout_exports as exports
import pytest
from layout_exports import IMAGES, contents, expected

from sparse_rcnn.data import DatasetRemark, list_splits, load_dataset

pytestmark = pytest.mark.filterwarnings("ignore::sparse_rcnn.data.DatasetRemark")


def crowdhuman(root: Path) -> None:
    for picture in IMAGES:
        exports.draw(root / f"Images/{picture.stem}.jpg", picture)
        line = f'{{"ID": "{picture.stem}", "gtboxes": []}}\n'
        with open(root / f"annotation_{picture.split}.odgt", "a") as stream:
            stream.write(line)


# A layout, one of its files, and the name of a second one of the same split.
CLAIMED = [
    (exports.coco_plain, "train.json", "annotations/instances_train.json"),
    (exports.coco_2014, "annotations/instances_train2014.json", "annotations/train2014_part2.json"),
    (exports.coco_valid_folders, "train/_annotations.coco.json", "train/more.json"),
    (exports.cvat_subsets, "annotations.xml", "more.xml"),
    (crowdhuman, "annotation_train.odgt", "annotation_train_part2.odgt"),
]


@pytest.mark.parametrize(("write", "first", "second"), CLAIMED)
def test_files_of_one_split_are_refused_by_name(
    tmp_path: Path, write: Callable[[Path], None], first: str, second: str
) -> None:
    write(tmp_path)
    splits, val = list_splits(tmp_path), contents(load_dataset(tmp_path, "val"))
    (tmp_path / second).parent.mkdir(exist_ok=True)
    shutil.copy(tmp_path / first, tmp_path / second)
    both = ", ".join(sorted(str(tmp_path / file) for file in (first, second)))
    with pytest.raises(
        ValueError, match=r"has 2 files, all of the split 'train.*--train-annotations"
    ) as raised:
        load_dataset(tmp_path, "train")
    assert all(file in str(raised.value) for file in both.split(", "))
    assert list_splits(tmp_path) == splits
    if write is not exports.cvat_subsets:  # there both splits are in each file
        assert contents(load_dataset(tmp_path, "val")) == val


def test_the_error_names_what_can_be_given_in_its_place(tmp_path: Path) -> None:
    for number, split in enumerate(("train", "val"), start=1):
        pictures = exports.of_split(split)
        file = tmp_path / f"annotations/train_part{number}.json"
        exports.text(file, exports.coco(pictures, lambda p: f"{p.stem}.jpg"))
        for picture in pictures:
            exports.draw(tmp_path / f"images/{picture.stem}.jpg", picture)
    with pytest.raises(ValueError, match=r"has 2 files, .*train_part1\.json, .*train_part2\.json"):
        load_dataset(tmp_path, "train")
    assert contents(load_dataset(tmp_path / "annotations/train_part2.json", val_share=0)) == expected("val")
    for folder in ("site1", "site2"):  # none says a split
        exports.text(tmp_path / f"sites/{folder}/labels.json", file.read_text())
    with pytest.raises(ValueError, match=r"none says its split: .*site1.labels\.json, .*site2.labels\.json"):
        load_dataset(tmp_path / "sites")


def test_another_list_of_the_split_gets_a_remark(tmp_path: Path) -> None:
    exports.voc_devkit(tmp_path)
    lists = tmp_path / "VOCdevkit/VOC2012/ImageSets/Main"
    (lists / "minival.txt").write_text((lists / "val.txt").read_text().splitlines()[0])
    with pytest.warns(DatasetRemark, match=r"split 'val' is read without minival"):
        assert contents(load_dataset(tmp_path, "val")) == expected("val")
    assert len(load_dataset(tmp_path, "minival")) == 1
    (lists / "val.txt").rename(lists / "valid.txt")  # no list has the name itself
    with pytest.raises(ValueError, match=r"has several splits 'val': give one of minival, valid"):
        load_dataset(tmp_path, "val")  # none is held out in their place
    assert contents(load_dataset(tmp_path, "train")) == expected("train")
