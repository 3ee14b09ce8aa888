"""The checks of data sets before training."""

import json
import shlex
import shutil
from argparse import Namespace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import PIL.Image
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from parts.training.arguments import parse_arguments
from parts.training.data_digest import data_digests
from parts.training.processes import Processes
from parts.training.resuming import other_boxes
from parts.training.training_data import check_data, load_data, open_data, pad_to_largest, write_down

from sparse_rcnn.data import (
    Batch,
    ShapesDataset,
    Target,
    UnreadableImageError,
    collate,
    evaluate_coco,
    load_dataset,
    training_transform,
    write_dataset,
)
from sparse_rcnn.inference import category_ids_of
from sparse_rcnn.ops import shortest_side_resize

sides = st.integers(1, 3000)


def blank(height: int, width: int) -> tuple[torch.Tensor, Target]:
    boxes, labels = torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64)
    return torch.zeros(3, height, width, dtype=torch.uint8), Target(boxes, labels, 1, (height, width))


def dataset_of(*image_sizes: tuple[int, int]) -> Any:
    return SimpleNamespace(image_sizes=list(image_sizes))


def padded_size(
    batch: Batch, dataset: Any, shortest: int, longest: int, crop: bool = False
) -> tuple[int, int]:
    padded = pad_to_largest(batch, dataset, shortest, longest, crop)
    height, width = batch.images.shape[2:]
    assert torch.equal(padded.images[:, :, :height, :width], batch.images)
    assert padded.images.sum() == batch.images.sum()  # the rest is 0
    for mine, theirs in zip(padded[1:], batch[1:], strict=True):
        assert mine is theirs
    return tuple(padded.images.shape[2:])


def rounded_up(side: int) -> int:
    return -(-side // 32) * 32


@pytest.mark.filterwarnings("ignore::sparse_rcnn.data.DatasetRemark")
def test_a_split_is_written_down_when_the_run_begins(tmp_path: Path) -> None:
    data, run = tmp_path / "shapes", tmp_path / "run"
    ShapesDataset(data, "train", 6, image_size=64)
    arguments = parse_arguments(None, ["--data", str(data), "--output", str(run)])
    train, val = open_data(arguments, False, Processes(0, 0, 1, torch.device("cpu")))
    assert not run.exists()  # it may be an earlier run, which keeps its split
    run.mkdir()
    write_down(arguments, train, val, 0)
    again = load_dataset(data, "val", val_share=run / "split.json")
    assert again.image_paths == val.image_paths != train.image_paths


@pytest.mark.filterwarnings("ignore::sparse_rcnn.data.DatasetRemark")
def test_a_resumed_run_has_the_images_with_which_it_began(tmp_path: Path) -> None:
    """Labels decide which images are held out, and one of them is mended."""
    data, run = tmp_path / "data", tmp_path / "run"
    for folder in (data / "images", data / "labels", run):
        folder.mkdir(parents=True)
    (data / "classes.txt").write_text("cat\ndog\n")
    for number in range(20):
        PIL.Image.new("RGB", (96, 80)).save(data / f"images/{number}.jpg")
        (data / f"labels/{number}.txt").write_text(f"{number % 2} .2 .25 .2 .25\n")
    alone = Processes(0, 0, 1, torch.device("cpu"))

    def open_again(directory: Path = data, split: Path | None = None) -> tuple[dict[str, Any], list[str]]:
        arguments = parse_arguments(None, ["--data", str(directory), "--output", str(run)])
        train, val = open_data(arguments, True, alone, split)
        if split is None:
            write_down(arguments, train, val, 0)
        return data_digests({"train": train, "val": val}), sorted(Path(p).name for p in val.image_paths)

    before, held_out = open_again()
    assert held_out == ["10.jpg", "7.jpg"]
    shutil.copy(run / "split.json", run / "own.json")
    (data / "labels/7.txt").write_text("0 .2 .25 .2 .25\n")
    assert open_again()[1] == ["10.jpg", "5.jpg"]  # 5 was trained on
    shutil.move(data, tmp_path / "moved")
    digests, again = open_again(tmp_path / "moved", run / "own.json")
    assert again == held_out
    assert [name for name in before if digests[name] != before[name]] == ["val boxes"]
    remark = other_boxes({"iteration": 6, "data": before}, digests)
    assert remark.startswith("since iteration 6, annotations have changed (val boxes): the run goes on")
    assert other_boxes({"iteration": 6, "data": before}, before) == ""
    (tmp_path / "moved/images/3.jpg").rename(tmp_path / "moved/images/33.jpg")
    (tmp_path / "moved/labels/3.txt").rename(tmp_path / "moved/labels/33.txt")
    with pytest.raises(ValueError, match=r"own\.json: .* 2 are not on both sides.* new run with --no-"):
        open_again(tmp_path / "moved", run / "own.json")
    assert open_again(tmp_path / "moved")[0]["train images"] != before["train images"]


@given(
    st.lists(st.tuples(sides, sides), min_size=1, max_size=6),
    st.lists(st.integers(16, 160), min_size=1, max_size=4),
    st.integers(16, 260),
)
def test_the_padding_is_the_most_that_any_image_at_any_size_needs(
    image_sizes: list[tuple[int, int]], shortest: list[int], longest: int
) -> None:
    possible = [shortest_side_resize(*size, side, longest) for size in image_sizes for side in shortest]
    expected = tuple(rounded_up(max(side)) for side in zip(*possible, strict=True))
    batch = collate([blank(*possible[0])])
    assert padded_size(batch, dataset_of(*image_sizes), max(shortest), longest) == expected


def test_the_papers_sizes_need_what_is_known_of_coco() -> None:
    batch = collate([blank(8, 8)])
    assert padded_size(batch, dataset_of((480, 640)), 800, 1333) == (800, 1088)
    assert padded_size(batch, dataset_of((480, 640), (640, 480)), 800, 1333) == (1088, 1088)
    assert padded_size(batch, dataset_of((100, 1000)), 800, 1333) == (160, 1344)


def test_crops_need_no_more_than_their_most_oblong_window() -> None:
    """600 x 384 pixels, at the largest size: not --max-size, which may be far away."""
    batch = collate([blank(8, 8)])
    assert padded_size(batch, dataset_of((640, 640)), 64, 1333, crop=True) == (128, 128)
    assert padded_size(batch, dataset_of((480, 640)), 800, 1333, crop=True) == (1280, 1280)
    assert padded_size(batch, dataset_of((480, 640)), 800, 1000, crop=True) == (1024, 1024)
    assert padded_size(batch, dataset_of((100, 1000)), 64, 1333, crop=True) == (128, 640)


def test_a_batch_that_is_larger_is_left_as_it_is() -> None:
    batch = collate([blank(128, 96)])
    assert padded_size(batch, dataset_of((50, 50)), 64, 64) == (128, 96)


@pytest.mark.parametrize("crop", [False, True])
def test_no_draw_of_the_augmentation_is_larger(crop: bool) -> None:
    transform = training_transform((48, 64), 200, crop=crop, vertical_flip=True)
    image = torch.zeros(3, 40, 40, dtype=torch.uint8)
    torch.manual_seed(0)
    draws = [transform(image) for _ in range(40)]
    largest = tuple(rounded_up(max(side)) for side in zip(*(draw.shape[1:] for draw in draws), strict=True))
    found = padded_size(collate([blank(8, 8)]), dataset_of((40, 40)), 64, 200, crop)
    assert found[0] >= largest[0]
    assert found[1] >= largest[1]


@pytest.fixture(scope="module")
def intact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("data") / "shapes"
    load_data(options(directory), tolerant=False)
    return directory


@pytest.fixture
def root(intact: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(intact, tmp_path / "shapes"))


def options(root: Path, *others: str) -> Namespace:
    return parse_arguments(None, ["--shapes-dir", str(root), "--shapes-images", "4", *others])


def train_and_val(root: Path, tolerant: bool = False) -> dict[str, Any]:
    return dict(zip(("train", "val"), load_data(options(root), tolerant), strict=True))


@pytest.mark.parametrize("tolerant", [False, True])
def test_what_is_in_order_needs_no_words(
    root: Path, capsys: pytest.CaptureFixture[str], tolerant: bool
) -> None:
    check_data(train_and_val(root), tolerant)
    assert capsys.readouterr().out == ""  # the table before it has the numbers


@pytest.mark.parametrize("split", ["train", "val"])
def test_an_image_that_cannot_be_read_is_refused_unless_tolerated(
    root: Path, capsys: pytest.CaptureFixture[str], split: str
) -> None:
    broken = root / f"{split}2017" / f"{3:012d}.jpg"
    broken.write_bytes(broken.read_bytes()[:-1000])  # its header is whole
    datasets = train_and_val(root)
    with pytest.raises(UnreadableImageError, match=rf"1 unusable image\(s\): .*{broken.name}: cannot"):
        check_data(datasets, tolerant=False)
    with pytest.raises(UnreadableImageError, match="--max-unreadable N trains without them"):
        check_data(datasets, tolerant=False)
    capsys.readouterr()
    check_data(datasets, tolerant=True)
    said = capsys.readouterr().out
    assert str(broken) in said
    place = {"train": "others will take their place", "val": "the evaluation leaves them out"}
    assert [text in said for text in place.values()] == [name == split for name in place]
    assert said.startswith(f"{split}: ")


@pytest.mark.parametrize("layout", [(), ("--data", "")])
@pytest.mark.parametrize("split", ["train", "val"])
def test_a_missing_image_is_refused_unless_tolerated(
    root: Path, capsys: pytest.CaptureFixture[str], split: str, layout: tuple[str, ...]
) -> None:
    gone = root / f"{split}2017" / f"{2:012d}.jpg"
    gone.unlink()
    arguments = options(root, *(value or str(root) for value in layout))
    with pytest.raises(ValueError, match=gone.name):
        load_data(arguments, tolerant=False)
    datasets = dict(zip(("train", "val"), load_data(arguments, tolerant=True), strict=True))
    assert [len(dataset) for dataset in datasets.values()] == [4, 4]
    with pytest.raises(UnreadableImageError, match=gone.name):
        check_data(datasets, tolerant=False)
    check_data(datasets, tolerant=True)
    assert str(gone) in capsys.readouterr().out


def test_of_a_large_data_set_only_headers_are_read(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = root / "train2017" / f"{3:012d}.jpg"
    broken.write_bytes(broken.read_bytes()[:-1000])
    datasets = train_and_val(root)
    monkeypatch.setattr("parts.training.training_data.WHOLE", 3)
    check_data(datasets, tolerant=False)
    broken.write_bytes(b"")
    with pytest.raises(UnreadableImageError, match=broken.name):
        check_data(datasets, tolerant=False)


def test_shapes_are_trained_on_as_drawn_and_flipped(root: Path) -> None:
    train, val = load_data(options(root), tolerant=False)
    assert isinstance(train, ShapesDataset)
    assert (len(train), len(val)) == (4, 4)
    widths = set()
    for seed in range(8):
        torch.manual_seed(seed)
        image, target = train[0]
        assert tuple(image.shape[1:]) == train.image_sizes[0]
        widths.add(target.boxes[0, 0].item())
    assert len(widths) == 2


def test_a_directory_is_read_in_its_own_layout(root: Path) -> None:
    arguments = options(root, "--data", str(root), "--sizes", "32", "--max-size", "40", "--eval-size", "64")
    train, val = load_data(arguments, tolerant=False)
    assert not isinstance(train, ShapesDataset)
    assert train.image_ids == [1, 2, 3, 4]
    for index in range(4):
        assert max(train[index][0].shape[1:]) <= 40
        assert max(val[index][0].shape[1:]) == 40  # bound by --max-size


def test_sizes_above_the_limit_are_said(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    alone = Processes(0, 0, 1, torch.device("cpu"))
    sizes = ("--sizes", "32", "48", "--max-size", "40")
    open_data(options(root, "--data", str(root), *sizes, "--eval-size", "40"), False, alone)
    remarks = [line for line in capsys.readouterr().out.splitlines() if "--max-size" in line]
    assert remarks == ["remark: --sizes 48 is above --max-size 40: images stay smaller"]


def test_a_training_set_without_boxes_is_refused(root: Path) -> None:
    file = root / "annotations" / "instances_train2017.json"
    content = json.loads(file.read_text())
    file.write_text(json.dumps({**content, "annotations": []}))
    with pytest.raises(ValueError, match=f"^{root}: the training set has no box to learn from"):
        load_data(options(root, "--data", str(root)), tolerant=True)


def test_other_classes_for_validation_are_refused(root: Path) -> None:
    file = root / "annotations" / "instances_val2017.json"
    content = json.loads(file.read_text())
    content["categories"][0]["name"] = "something else"
    file.write_text(json.dumps(content))
    arguments = options(root, "--data", str(root))
    with pytest.raises(
        ValueError, match=r"classes that train has not: something else; .*--classes "
    ) as raised:
        load_data(arguments, tolerant=True)
    splits = {split: load_dataset(root, split) for split in ("train", "val")}
    with pytest.raises(
        ValueError, match=r"train and val have different classes \(not in both: .*something else"
    ):
        write_dataset(splits, root / "out", "coco")
    kept = shlex.split(str(raised.value).split("--classes ")[1])
    train, val = load_data(options(root, "--data", str(root), "--classes", *kept), tolerant=True)
    assert train.class_names == val.class_names == kept


def test_validation_may_have_fewer_classes_with_other_ids(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = root / "annotations" / "instances_val2017.json"
    content = json.loads(file.read_text())
    used = {entry["category_id"] for entry in content["annotations"]}
    gone = next(entry["name"] for entry in content["categories"][1:] if entry["id"] in used)
    names = [entry["name"] for entry in content["categories"] if entry["name"] != gone]
    name_of = {entry["id"]: entry["name"] for entry in content["categories"]}
    id_of = {name: 7 * number for number, name in enumerate(names[::-1], start=1)}  # in another order
    content["annotations"] = [
        {**entry, "category_id": id_of[name_of[entry["category_id"]]]}
        for entry in content["annotations"]
        if name_of[entry["category_id"]] != gone
    ]
    content["categories"] = [{"id": id, "name": name} for name, id in id_of.items()]
    file.write_text(json.dumps(content))

    train, val = load_data(options(root, "--data", str(root)), tolerant=False)
    assert (
        f"val gets the classes of train, in their order: its own files lack {gone}" in capsys.readouterr().out
    )
    assert (train.class_names, len({*val.category_ids})) == (val.class_names, len(train.class_names))
    alone = load_dataset(root, "val")  # as evaluate.py opens it
    assert alone.class_names != train.class_names
    for dataset, ids in ((val, val.category_ids), (alone, category_ids_of(train.class_names, alone))):
        results = [  # a detector of train's labels finds each box
            {"image_id": entry["image_id"], "bbox": entry["bbox"], "score": 0.9, "category_id": ids[label]}
            for entry in content["annotations"]
            for label in [train.class_names.index(names[::-1][entry["category_id"] // 7 - 1])]
        ]
        figures = evaluate_coco(dataset, results)
        assert figures["AP"] == pytest.approx(1)
        assert {result["category_id"] for result in results} <= {*id_of.values()}
