"""Every layout of every tool gives the same images, boxes and classes."""

import json
import math
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import layout_exports as exports
import pytest
import torch
from layout_exports import CLASSES, IMAGES, contents, expected

from sparse_rcnn.data import DatasetRemark, DetectionDataset, list_splits, load_dataset, write_split
from sparse_rcnn.data.formats.json_file import ENDS

Patch = pytest.MonkeyPatch
pytestmark = pytest.mark.filterwarnings("ignore::sparse_rcnn.data.DatasetRemark")


@pytest.mark.parametrize("write", exports.WITH_SPLITS, ids=lambda write: write.__name__)
def test_layouts_with_splits(tmp_path: Path, write: Callable[[Path], None], monkeypatch: Patch) -> None:
    write(tmp_path)
    remarks = load_dataset(tmp_path).remarks
    exports.results(tmp_path)
    assert load_dataset(tmp_path).remarks == remarks
    monkeypatch.chdir(tmp_path)
    for split, name in (("train", "train"), ("val", "val"), ("val", "valid")):
        data = load_dataset(".", name)
        assert contents(data) == expected(split)
        assert data.class_names == CLASSES
    with pytest.raises(ValueError, match=r"has no split 'tset': there is train, val"):
        load_dataset(tmp_path, "tset")


@pytest.mark.parametrize("write", exports.WITHOUT_SPLITS, ids=lambda write: write.__name__)
def test_layouts_without_splits(tmp_path: Path, write: Callable[[Path], None], monkeypatch: Patch) -> None:
    write(tmp_path)
    exports.results(tmp_path)
    assert list_splits(tmp_path) == ["all"]
    monkeypatch.chdir(tmp_path)
    train, val = (load_dataset(".", split, val_share=0.4) for split in ("train", "val"))
    assert len(val) == 2
    assert train.class_names == val.class_names == CLASSES
    assert {**contents(train), **contents(val)} == expected("train", "val")
    assert not {*train.image_paths} & {*val.image_paths}
    assert contents(load_dataset(tmp_path, "train", val_share=0)) == expected("train", "val")


def test_photos_of_locks_are_no_results(tmp_path: Path) -> None:
    """A run has a file called lock; here it is a folder of photos."""
    for kind in ("lock", "key"):
        exports.draw(tmp_path / f"images/{kind}/{kind}.jpg", IMAGES[0])
        exports.text(tmp_path / f"labels/{kind}/{kind}.txt", "0 0.5 0.5 0.5 0.5\n")
    data = load_dataset(tmp_path, val_share=0)
    assert (len(data), data.num_objects) == (2, 2)


@pytest.mark.parametrize(("head", "row"), exports.CSV_TABLES.values(), ids=exports.CSV_TABLES)
def test_tables(tmp_path: Path, head: str, row: Callable[..., str]) -> None:
    exports.csv_of(tmp_path, head, row)
    assert list_splits(tmp_path) == ["all"]
    data = load_dataset(tmp_path, val_share=0)
    with_boxes = {stem: found for stem, found in expected("train", "val").items() if found[1]}
    assert (contents(data), data.class_names) == (with_boxes, CLASSES)
    exports.draw(tmp_path / "images/alone.jpg", IMAGES[0])
    with pytest.warns(DatasetRemark, match=r"1 image is in no file and left out, such as images/alone.jpg"):
        assert len(load_dataset(tmp_path, val_share=0)) == len(with_boxes)
    (tmp_path / "labels.csv").write_text(f"{head}\n{row(IMAGES[0], 'cat', 1, 2, 3, 4)}".replace("1", "one"))
    with pytest.raises(ValueError, match=r"labels\.csv: line 2: the box must be four numbers, got .*one"):
        load_dataset(tmp_path, val_share=0)
    (tmp_path / "labels.csv").write_bytes(f"{head}\n{row(IMAGES[0], 'kä', 1, 2, 3, 4)}".encode("latin-1"))
    with pytest.raises(ValueError, match=r"labels\.csv: cannot be read: .*; save it as UTF-8"):
        load_dataset(tmp_path, val_share=0)


LONG = {"padding": "x" * ENDS}  # longer than what is looked at first


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_names_behind_long_lists_are_found(tmp_path: Path, encoding: str) -> None:
    exports.coco_plain(tmp_path / "coco")
    exports.via(tmp_path / "via")
    exports.createml(tmp_path / "createml")
    exports.labelme(tmp_path / "labelme")
    for file in tmp_path.glob("**/*.json"):
        content = json.loads(file.read_text())
        if "coco" in file.parts:
            for name in ("images", "categories", "annotations"):  # in this order
                entries = content.pop(name)
                content[name] = [{**entry, **LONG} for entry in entries]
            content.pop("info")
        elif "via" in file.parts:
            for image in content.values():
                image["regions"] = [{**LONG, **region} for region in image["regions"]]
                image["file_attributes"] = image.pop("file_attributes")  # behind them
        elif "createml" in file.parts:
            for image in content:
                image["annotations"] = [{**entry, **LONG} for entry in image["annotations"]]
                image["image"] = image.pop("image")
        else:
            shapes = [{**shape, **LONG} for shape in content.pop("shapes")]
            content = {"flags": {}, **LONG, "imagePath": content["imagePath"], "shapes": shapes, "z": LONG}
        file.write_text(json.dumps(content), encoding)
    for layout in ("coco", "via", "createml", "labelme"):
        assert contents(load_dataset(tmp_path / layout, "train")) == expected("train")


SIMPLE_FAULTS = {
    exports.labelme: [
        ('{"shapes": 1, "flags": {}}', r"field 'shapes' must be a list, got 1"),
        ('{"shapes": [{}], "flags": {}}', r"shape 0: field 'label' must be a name, got nothing"),
        (
            '{"shapes": [{"label": "cat", "points": [[1, 2]]}], "flags": {}}',
            r"shape 0: field 'points' must be two points",
        ),
    ],
    exports.via: [
        (
            '{"a1": {"filename": "a1.jpg", "file_attributes": {}, "regions": [{"region_attributes": {}}]}}',
            r"image 'a1': region 0: 'region_attributes' must have one attribute that says the class",
        ),
        (
            '{"a1": {"filename": "a1.jpg", "file_attributes": {}, "regions": [{"region_attributes": '
            '{"class": "cat"}, "shape_attributes": {"x": 1}}]}}',
            r"image 'a1': region 0: field 'y' must be a finite number, got nothing",
        ),
    ],
    exports.createml: [
        (
            '[{"image": "a1.jpg", "annotations": [{"label": "", "coordinates": {}}]}]',
            r"image 0: annotation 0: field 'label' must be a name, got ''",
        ),
        (
            '[{"image": "a1.jpg", "annotations": [{"label": "cat", "coordinates": {"x": "1"}}]}]',
            r"image 0: annotation 0: field 'x' must be a finite number, got '1'",
        ),
    ],
}


@pytest.mark.parametrize("write", SIMPLE_FAULTS, ids=lambda write: write.__name__)
def test_faults_of_simple_formats(tmp_path: Path, write: Callable[[Path], None]) -> None:
    write(tmp_path)
    file = min((tmp_path / "train").rglob("*.json"))
    for content, message in SIMPLE_FAULTS[write]:
        file.write_text(content)
        with pytest.raises(ValueError, match=rf"{file.name}: {message}"):
            load_dataset(tmp_path)


def test_what_would_be_read_wrongly_in_silence(tmp_path: Path) -> None:
    exports.cvat_images(tmp_path / "cvat")  # a box that is turned about its centre
    file = tmp_path / "cvat/annotations.xml"
    file.write_text(
        file.read_text().replace('xtl="30.00" ytl="10.00"', 'rotation="90" xtl="40.00" ytl="10.00"')
    )
    assert ("dog", [35.0, 15.0, 60.0, 35.0]) in contents(load_dataset(tmp_path / "cvat", val_share=0))["a1"][
        1
    ]

    exports.yolo_roboflow_darknet(tmp_path / "names")  # the splits have their classes in another order
    (tmp_path / "names/export/valid/_darknet.labels").write_text("dog\ncat\nowl\n")
    with pytest.raises(ValueError, match=r"_darknet\.labels and .*_darknet\.labels name different classes"):
        load_dataset(tmp_path / "names")

    exports.yolo_names_beside(tmp_path / "count")  # the names are another data set's
    (tmp_path / "count/classes.txt").write_text("cat\ndog\n")
    with pytest.raises(ValueError, match=r"field 'nc' says 3 classes, but .*classes\.txt has 2"):
        load_dataset(tmp_path / "count")

    exports.csv_of(tmp_path / "small", *exports.CSV_TABLES["Roboflow"])  # the images were made smaller since
    table = tmp_path / "small/labels.csv"
    table.write_text(re.sub(r"jpg,(\d+),(\d+)", r"jpg,\g<1>0,\g<2>0.0", table.read_text()))
    with pytest.raises(ValueError, match=r"is 40 x 60 \(height x width\) but its annotation says 400 x 600"):
        load_dataset(tmp_path / "small", val_share=0).check_images()

    exports.voc_windows(tmp_path / "both")  # a table beside XML files has other splits
    exports.csv_of(tmp_path / "both", *exports.CSV_TABLES["Roboflow"])
    (tmp_path / "both/labels.csv").rename(tmp_path / "both/test_labels.csv")
    with pytest.raises(ValueError, match=r"has no split 'test': there is train, val \(Pascal VOC\)"):
        load_dataset(tmp_path / "both", "test")


def test_single_files_are_data_sets(tmp_path: Path, monkeypatch: Patch) -> None:
    exports.coco_plain(tmp_path / "coco")
    exports.yolo_ultralytics(tmp_path / "yolo")
    exports.yolo_lists(tmp_path / "lists")
    exports.voc_devkit(tmp_path / "voc")
    exports.cvat_images(tmp_path / "cvat")
    exports.csv_of(tmp_path / "csv", *exports.CSV_TABLES["Roboflow"])
    files = {
        "coco/train.json": ("train", 3, 3),
        "yolo/mine.yaml": ("val", 2, 4),
        "lists/val.txt": ("train", 2, 4),
        "voc/VOCdevkit/VOC2012/ImageSets/Main/val.txt": ("train", 2, 4),
        "cvat/annotations.xml": ("train", 5, 7),
        "csv/labels.csv": ("train", 4, 7),
    }
    for name, (split, images, objects) in files.items():
        whole = load_dataset(tmp_path / name, split, val_share=0)
        assert (len(whole), whole.num_objects) == (images, objects)
        monkeypatch.chdir((tmp_path / name).parent)
        assert contents(load_dataset(Path(name).name, split, val_share=0)) == contents(whole)
    shutil.move(tmp_path / "coco/images", tmp_path / "elsewhere")
    images = {"images": tmp_path / "elsewhere", "val_share": 0}
    assert contents(load_dataset(tmp_path / "coco/train.json", **images)) == expected("train")
    with pytest.raises(
        ValueError, match=r"train\.json: 3 of 3 images are not in .*a1\.png, a2\.png, a3\.png"
    ):
        load_dataset(tmp_path / "coco/train.json")
    (tmp_path / "elsewhere/a1.png").unlink()
    with pytest.raises(ValueError, match=r"1 of 3 images are not in .*elsewhere, where others are: a1\.png"):
        load_dataset(tmp_path / "coco/train.json", **images)


def test_held_out_images_are_a_function_of_the_seed_and_have_every_class(tmp_path: Path) -> None:
    exports.coco_makesense(tmp_path)
    with pytest.warns(
        DatasetRemark, match=r"has no split 'val': 2 of 5 images are it, a share of 0\.1, .* seed 0"
    ):
        val = load_dataset(tmp_path, "val")
    train = load_dataset(tmp_path)
    for data in (train, val):  # each class has two images at least
        assert {*data.annotations.labels.tolist()} == {0, 1, 2}
    assert load_dataset(tmp_path, "val").image_paths == val.image_paths
    others = {tuple(load_dataset(tmp_path, "val", split_seed=seed).image_paths) for seed in range(8)}
    assert len(others) > 1

    write_split(tmp_path / "split.json", tmp_path, {"train": val.image_paths, "val": train.image_paths})
    swapped = load_dataset(tmp_path, "val", val_share=tmp_path / "split.json")
    assert swapped.image_paths == train.image_paths
    (tmp_path / "a2.jpg").rename(tmp_path / "away.jpg")  # left out before the others are shared out
    train, val = (load_dataset(tmp_path, split, leave_out_broken=True) for split in ("train", "val"))
    assert len(train) + len(val) == 4
    write_split(tmp_path / "4.json", tmp_path, {"train": val.image_paths, "val": train.image_paths})
    swapped = load_dataset(tmp_path, "val", val_share=tmp_path / "4.json", leave_out_broken=True)
    assert swapped.image_paths == train.image_paths
    (tmp_path / "away.jpg").rename(tmp_path / "a2.jpg")
    (tmp_path / "a1.jpg").rename(tmp_path / "new.jpg")
    file = next(tmp_path.glob("labels*.json"))
    file.write_text(file.read_text().replace("a1.jpg", "new.jpg"))
    with pytest.raises(ValueError, match=r"split\.json: was written for other images: 2 .* such as a1\.jpg"):
        load_dataset(tmp_path, "val", val_share=tmp_path / "split.json")


def test_classes_are_chosen_merged_and_ghosts_left_out(tmp_path: Path) -> None:
    exports.coco_valid_folders(tmp_path)
    with pytest.warns(DatasetRemark, match="class animals is only the name above the others: left out"):
        assert load_dataset(tmp_path).class_names == CLASSES
    with pytest.warns(DatasetRemark, match="2 boxes are of classes that were not asked .* left out: cat"):
        data = load_dataset(tmp_path, "val", class_names=["owl", "dog"])
    assert (data.class_names, data.category_ids) == (["owl", "dog"], [3, 2])
    assert sorted(data[0][1].labels.tolist()) == [0, 1]
    assert len(data) == 2
    merged = load_dataset(tmp_path, "val", class_names={"pet": ["cat", "dog"], "owl": ["owl"]})
    assert sorted(merged[0][1].labels.tolist()) == [0, 0, 1]
    with pytest.raises(ValueError, match=r"class 'dgo' is not among the classes .* did you mean 'dog'\?"):
        load_dataset(tmp_path, class_names=["dgo"])
    wide = load_dataset(tmp_path, class_names=["ape", "dog"], allow_absent_classes=True)
    assert (wide.class_names, wide[0][1].labels.tolist()) == (["ape", "dog"], [1])


def test_broken_files_follow_one_option(tmp_path: Path) -> None:
    exports.voc_kaggle(tmp_path / "voc")
    (tmp_path / "voc/annots/a1.xml").write_text("<annotation><size>")
    (tmp_path / "voc/images/b1.png").unlink()
    exports.yolo_roboflow(tmp_path / "yolo")
    (tmp_path / "yolo/train/labels/a1.txt").write_text("0 0.5 0.5 0.1")
    (tmp_path / "yolo/train/images/a2.jpg").write_bytes(b"no image")
    for folder, message, gone in (
        ("voc", r"a1\.xml: is not valid XML", "b1.xml"),
        ("yolo", r"a1\.txt: line 1: must be 'class cx", "a2.jpg"),
    ):
        with pytest.raises(ValueError, match=message):
            load_dataset(tmp_path / folder)
        with pytest.warns(DatasetRemark) as caught:
            data = load_dataset(tmp_path / folder, val_share=0, leave_out_broken=True)
        said = "\n".join(str(warning.message) for warning in caught)
        assert "a1." in said
        assert gone in said
        kept = expected("train", "val") if folder == "voc" else expected("train")
        assert contents(data) == {stem: kept[stem] for stem in kept if stem not in ("a1", gone[:2])}


@pytest.mark.parametrize("write", [exports.coco_valid_folders, exports.voc_beside, exports.yolo_beside])
def test_a_missing_image_is_not_taken_from_another_folder(
    tmp_path: Path, write: Callable[[Path], None]
) -> None:
    write(tmp_path)
    image = next(tmp_path.rglob("a2.jpg"))
    other = next(tmp_path.rglob("b1.jpg")).parent
    shutil.move(image, other)  # now it has no annotation
    with pytest.raises(ValueError, match=r"1 of [235] .*a2"):
        load_dataset(tmp_path)


UNKNOWN = {
    "nothing": ({}, r"found no files\. Known: COCO, CrowdHuman, .*Pascal VOC, YOLO"),
    "archive": ({"export.zip": ""}, r"found 1 \.zip; it holds an archive: unpack it"),
    "images": (
        {"photos/a.jpg": "", "photos/b.jpg": ""},
        r"found 2 \.jpg in photos/; it holds images, but no annotations: annotate them first",
    ),
    "json": (
        {"a.json": "[]", "x/y.jpg": ""},
        r"found .*the nearest is COCO \(.*\), but no JSON .* has images",
    ),
    "xml": (
        {"a.xml": "<note/>"},
        r"the nearest is Pascal VOC \(.*\), but none of the XML files begins with",
    ),
    "table": ({"train.csv": "a,b"}, r"found 1 \.csv; the nearest is CSV \(.*\), but no table has columns"),
    "lines": ({"metadata.jsonl": "{}"}, r"holds lines of JSON, as of Hugging Face: convert them"),
    "label studio": (
        {"a.json": '[{"label": [{"rectanglelabels": ["cat"], "original_width": 60}]}]'},
        r"a\.json looks like Label Studio's own file: export the project as COCO or YOLO",
    ),
    "datumaro": (
        {"annotations/train.json": '{"categories": {}, "items": [{"annotations": [{"label_id": 0}]}]}'},
        r"train\.json looks like Datumaro's own file: convert it, datum convert -f coco_instances",
    ),
}


@pytest.mark.parametrize(("files", "message"), UNKNOWN.values(), ids=UNKNOWN)
def test_an_unknown_layout_says_what_was_found(tmp_path: Path, files: dict[str, str], message: str) -> None:
    for name, content in files.items():
        exports.text(tmp_path / name, content)
    with pytest.raises(ValueError, match=message):
        load_dataset(tmp_path)


def test_what_is_not_there_or_ambiguous(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"nowhere: there is no such file or directory"):
        load_dataset(tmp_path / "nowhere")
    exports.coco_2014(tmp_path / "coco")
    for split in ("train", "val"):
        annotations = tmp_path / "coco/annotations"
        shutil.copy(annotations / f"instances_{split}2014.json", annotations / f"instances_{split}2017.json")
    with pytest.raises(ValueError, match=r"has several splits 'val': give one of val2014, val2017"):
        load_dataset(tmp_path / "coco", "val")
    assert contents(load_dataset(tmp_path / "coco", "val2014")) == expected("val")
    exports.voc_devkit(tmp_path / "two")
    shutil.copytree(tmp_path / "two/VOCdevkit/VOC2012", tmp_path / "two/VOCdevkit/VOC2007")
    with pytest.raises(ValueError, match=r"holds several data sets: .*VOC2007, .*VOC2012; give the one"):
        load_dataset(tmp_path / "two")


YOLO_FAULTS = [
    (
        "3 0.5 0.5 0.1 0.1",
        r"line 2: field 'class' must be an integer from 0 to 2 \(3 classes are known\), got '3'",
    ),
    ("x 0.5 0.5 0.1 0.1", r"line 2: must be numbers with spaces between, got 'x'"),
    ("0,0.5,0.5,0.1,0.1", r"line 2: must be numbers .* got '0,0"),
    (
        "0 30 20 10 12",
        r"line 2: coordinates must be fractions of the image, 0 to 1, got 30: are these",
    ),
    ("0 0.5 0.5 nan 0.1", r"line 2: number 4 must be finite, got 'nan'"),
    ("0 0.5 0.5 0.1 0.1 0.9", r"line 2: must be 'class cx cy w h'.*a fifth is a score"),
    (
        "0 0.5 0.5 0.2 0.2 0.4 0.4 2 0.5 0.5 1",
        r"line 2: no polygon has .* key points 'x y visible'\? kpt_shape",
    ),
    ("0 0.5 0.5 -0.1 0.1", r"line 2 \(class 0\): cx cy w h \(.*\) has a negative width or height"),
]


@pytest.mark.parametrize(("row", "message"), YOLO_FAULTS)
def test_faults_of_label_files(tmp_path: Path, row: str, message: str) -> None:
    exports.yolo_roboflow(tmp_path)
    (tmp_path / "train/labels/a1.txt").write_text(f"0 0.5 0.5 0.1 0.1\n{row}\n")
    with pytest.raises(ValueError, match=r"a1\.txt: " + message):
        load_dataset(tmp_path)


def test_label_files_without_an_image_get_a_remark(tmp_path: Path) -> None:
    exports.yolo_roboflow(tmp_path)
    (tmp_path / "train/labels/classes.txt").write_text("cat\n")  # no label file
    assert not any("no image" in remark for remark in load_dataset(tmp_path).remarks)
    # A photo that a phone stored in another format.
    (image,) = (tmp_path / "train/images").glob("a1.*")
    image.rename(image.with_suffix(".heic"))
    (remark,) = (remark for remark in load_dataset(tmp_path).remarks if "no image" in remark)
    lost = tmp_path / "train/labels/a1.txt"
    assert remark.endswith(f"data.yaml: 1 label file has no image that can be read, such as {lost}")


@pytest.mark.parametrize(
    ("images", "labels", "suffix"),
    [("images", "labels", ".TXT"), ("IMAGES", "Labels", ".txt"), ("img", "label", ".txt")],
)
def test_label_files_in_other_spellings(tmp_path: Path, images: str, labels: str, suffix: str) -> None:
    exports.yolo_ultralytics(tmp_path)
    (tmp_path / "images").rename(tmp_path / images)
    (tmp_path / "labels").rename(tmp_path / labels)
    for file in (tmp_path / labels).rglob("*.txt"):
        file.rename(file.with_suffix(suffix))
    yaml = tmp_path / "mine.yaml"
    yaml.write_text(yaml.read_text().replace("images/", f"{images}/"))
    assert contents(load_dataset(tmp_path)) == expected("train")


def test_lines_of_a_list_belong_to_its_data_set(tmp_path: Path, monkeypatch: Patch) -> None:
    exports.yolo_lists(tmp_path / "one")
    shutil.copytree(tmp_path / "one", tmp_path / "other")
    monkeypatch.chdir(tmp_path / "other")  # where all lines name a file, too
    paths = load_dataset(tmp_path / "one").image_paths
    assert {Path(path).parent for path in paths} == {tmp_path / "one/images"}


COPIES = {
    exports.labelme: ("train/annotations/a1.json", "train/labels/a1.json"),
    exports.voc_kaggle: ("annots/a1.xml", "labels/a1.xml"),
    exports.yolo_label_studio: ("labels/a1.txt", "images/a1.txt"),
}


@pytest.mark.parametrize("write", COPIES, ids=lambda write: write.__name__)
def test_two_files_of_one_image(tmp_path: Path, write: Callable[[Path], None]) -> None:
    write(tmp_path)
    first, second = (tmp_path / name for name in COPIES[write])
    before = load_dataset(tmp_path, val_share=0)
    second.parent.mkdir(exist_ok=True)
    shutil.copy(first, second)
    data = load_dataset(tmp_path, val_share=0)
    assert (contents(data), len(data)) == (contents(before), len(before))
    said = "1 file is a copy of another file of the same image: left out, such as"
    assert {*data.remarks} - {*before.remarks} == {f"{tmp_path}: {said} {max(first, second)}"}
    second.write_bytes(second.read_bytes() + b"\n")
    with pytest.raises(ValueError, match=r"a1\.\w+ and .*a1\.\w+ are both of image .*a1\.\w+, and differ"):
        load_dataset(tmp_path, val_share=0)


YAML_FAULTS = [
    ("names: [a", r"is not valid YAML"),
    ("train: train/images\nnames: [a, b]\nnc: 3", r"field 'nc' says 3 classes, but 'names' has 2"),
    ("train: train/images\nnames: {0: a, 1: b}\nnc: 5", r"field 'nc' says 5 classes, but 'names' has 2"),
    ("train: train/images\nnames: [a, ' ']", r"field 'names' must be a list of names"),
    (
        "train: train/images\nnames: {0: a, -1: b}",
        r"field 'names': labels must be integers from 0, each once, got {'0': 'a', '-1': 'b'}",
    ),
    ("train: gone\nnames: [a]", r"field 'train': there is no 'gone' in "),
    ("train: {a: b}\nnames: [a]", r"field 'train' must be a path or a list of paths, got {'a': 'b'}"),
    ("names: [a]", r"has none of the fields train, val and test"),
    ("train: train/images\nnames: a, b", r"field 'names' must be a list of names, a map .* got 'a, b'"),
]


@pytest.mark.parametrize(("content", "message"), YAML_FAULTS)
def test_faults_of_data_yaml(tmp_path: Path, content: str, message: str) -> None:
    exports.yolo_roboflow(tmp_path)
    (tmp_path / "data.yaml").write_text(content)
    with pytest.raises(ValueError, match=r"data\.yaml: " + message):
        load_dataset(tmp_path / "data.yaml")


def test_names_in_yaml_are_text(tmp_path: Path) -> None:
    exports.yolo_roboflow(tmp_path)
    (tmp_path / "data.yaml").write_text(
        "train: train/images\nval: valid/images\nnames: [no, 1e3, 2024-01-01]\n"
    )
    assert load_dataset(tmp_path).class_names == ["no", "1e3", "2024-01-01"]


CROWD_FAULTS = [
    ("{", r"line 1: is not valid JSON"),
    ('{"gtboxes": []}', r"line 1: field 'ID' must be a non-empty string, got nothing"),
    ('{"ID": "a1", "gtboxes": {}}', r"line 1: field 'gtboxes' must be a list, got {}"),
    ('{"ID": "a1", "gtboxes": [{"tag": "cat"}]}', r"image a1: box 0: field 'tag' must be .* got 'cat'"),
    (
        '{"ID": "a1", "gtboxes": [{"tag": "person", "fbox": [1, 2, 3]}]}',
        r"image a1: box 0: field 'fbox' must be",
    ),
]


def test_crowdhuman(tmp_path: Path) -> None:
    boxes = [
        {"tag": "person", "fbox": [-4, 6, 24, 20], "extra": {"occ": 1}},
        {"tag": "person", "fbox": [1, 1, 5, 5], "extra": {"ignore": 1}},
        {"tag": "mask", "fbox": [0, 0, 0, 0], "extra": {"ignore": 1}},
    ]
    exports.draw(tmp_path / "CrowdHuman_train01/Images/a1.jpg", IMAGES[0])
    exports.text(tmp_path / "annotation_train.odgt", json.dumps({"ID": "a1", "gtboxes": boxes}) + "\n")
    data = load_dataset(tmp_path, val_share=0)
    assert data[0][1].boxes.tolist() == [[0, 6, 20, 26]]
    assert (data.class_names, data.num_crowd, data.num_clipped) == (["person"], 2, 1)
    for content, message in CROWD_FAULTS:
        (tmp_path / "annotation_train.odgt").write_text(content)
        with pytest.raises(ValueError, match=r"annotation_train\.odgt: " + message):
            load_dataset(tmp_path, val_share=0)


def test_plain_lists(tmp_path: Path) -> None:
    for picture in IMAGES[:2]:
        exports.draw(tmp_path / f"{picture.stem}.jpg", picture)
    paths = [tmp_path / "a1.jpg", tmp_path / "a2.jpg"]
    boxes = [[[4, 6, 24, 26], [30, 10, 60, 40]], []]
    data = DetectionDataset.from_boxes(paths, boxes, [["cat", 1], []], CLASSES)
    assert data[0][1].boxes.tolist() == boxes[0]
    assert data[0][1].labels.tolist() == [0, 1]
    assert (data.image_sizes, data.num_objects) == ([(40, 60), (60, 40)], 2)
    whole = DetectionDataset.from_boxes(paths, boxes, [torch.tensor([0.0, 1.0]), []], CLASSES)
    assert whole[0][1].labels.tolist() == [0, 1]
    faults = [
        (boxes, [["cat"], []], r"a1\.jpg: 2 boxes came with 1 labels"),
        (boxes, [["cat", "ape"], []], r"a1\.jpg: label 1 must be one of .* or 0\.\.2, got 'ape'"),
        (boxes, [[1.7, 0], []], r"a1\.jpg: label 0 must be one of .* or 0\.\.2, got 1\.7"),
        (boxes, [[0, None], []], r"a1\.jpg: label 1 must be one of .* got None"),
        (boxes, [[math.nan, 0], []], r"a1\.jpg: label 0 must be one of .* got nan"),
        (boxes, [None, []], r"a1\.jpg: labels must be a list, got None"),
        ([[[1, 2, 3]], []], [[0], []], r"a1\.jpg: boxes must be numbers \[M, 4\]"),
        ([[[1, 2], [3, 4]], []], [[0], []], r"a1\.jpg: boxes must be numbers \[M, 4\]"),
        (
            [[[9, 2, 3, 4]], []],
            [[0], []],
            r"a1\.jpg: box 0: xyxy \[9\.0, 2\.0, 3\.0, 4\.0\] has a negative",
        ),
        (boxes[:1], [[0, 1], []], r"2 images came with 1 entries of boxes and 2 of labels"),
    ]
    for some, labels, message in faults:
        with pytest.raises(ValueError, match=message):
            DetectionDataset.from_boxes(paths, some, labels, CLASSES)
