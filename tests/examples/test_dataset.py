"""dataset.py, and the options of all scripts for data sets."""

import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path

import layout_exports as exports
import pytest
from layout_exports import CLASSES
from parts.open_dataset import add_data_options, load_dataset, open_split
from PIL import Image

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def options(data: Path | None, *words: str) -> Namespace:
    parser = ArgumentParser()
    parser.add_argument("--data")
    add_data_options(parser)
    return parser.parse_args([*(["--data", str(data)] if data else []), *words])


def test_annotations_without_a_layout(tmp_path: Path) -> None:
    exports.coco_plain(tmp_path)
    for split in ("train", "val"):
        (tmp_path / f"{split}.json").rename(tmp_path / f"labels of {split}.json")
    (tmp_path / "images").rename(tmp_path / "photos")
    both = [
        *(
            "--train-annotations",
            str(tmp_path / "labels of train.json"),
            "--train-images",
            str(tmp_path / "photos"),
        ),
        *(
            "--val-annotations",
            str(tmp_path / "labels of val.json"),
            "--val-images",
            str(tmp_path / "photos"),
        ),
    ]
    sizes = [len(open_split(options(None, *both), split)) for split in ("train", "val")]
    assert sizes == [3, 2]
    sizes = [len(open_split(options(None, *both[:4], "--split", "0.4"), split)) for split in ("train", "val")]
    assert sizes == [2, 1]
    with pytest.raises(ValueError, match=r"give the data \(train: --data DIR\), or --train-ann"):
        open_split(options(None), "train")


def test_classes_splits_and_remarks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    exports.yolo_label_studio(tmp_path)
    data = open_split(options(tmp_path, "--classes", "pet=cat,dog", "--split", "0.4"), "val")
    assert (data.class_names, len(data)) == (["pet"], 2)
    said = capsys.readouterr().out
    assert "remark: " in said
    assert "has no split 'val': 2 of 5 images are it, a share of 0.4" in said
    assert "1 box is of a class that was not asked for, and left out: owl" in said
    assert len(open_split(options(tmp_path, "--classes", "pet=cat,dog", "--split", "0.4"), "train")) == 3
    assert "has no split 'val'" not in capsys.readouterr().out  # once is enough
    assert load_dataset(str(tmp_path), "0.4", None).image_paths == data.image_paths
    with pytest.raises(ValueError, match="must be different names, got cat cat"):
        open_split(options(tmp_path, "--classes", "cat", "cat"), "val")
    with pytest.raises(ValueError, match=r"--split must be a share from 0 .* got 1\.5"):
        open_split(options(tmp_path, "--split", "1.5"), "val")
    with pytest.raises(ValueError, match=r"nowhere.json: cannot be read as a split"):
        open_split(options(tmp_path, "--split", "nowhere.json"), "val")


def test_a_look_and_a_conversion(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    exports.voc_beside(tmp_path / "data")
    monkeypatch.syspath_prepend(str(EXAMPLES))
    import dataset

    picture = tmp_path / "look.png"
    command = ["dataset.py", str(tmp_path / "data")]
    monkeypatch.setattr(sys, "argv", [*command, "--picture", str(picture), "--num-proposals", "2"])
    dataset.main()
    said = capsys.readouterr().out
    assert all(name in said for name in ("train", "val", *CLASSES))
    assert "val: 1 of 2 images have more objects than the 2 proposals" in said
    with Image.open(picture) as drawn:
        assert len(drawn.convert("RGB").getcolors(1 << 24)) > 50
    monkeypatch.setattr(sys, "argv", [*command, "--convert", "yolo", str(tmp_path / "yolo")])
    dataset.main()
    assert "5 images in train, val written to" in capsys.readouterr().out
    assert load_dataset(str(tmp_path / "yolo"), "val", None).num_objects == 4
