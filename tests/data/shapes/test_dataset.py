import json
import os
import shutil

import numpy as np
import pytest
import torch

from sparse_rcnn.data import CocoDetection, ShapesDataset, find_coco
from sparse_rcnn.data.shapes import dataset as shapes
from sparse_rcnn.data.shapes import shape_drawing
from sparse_rcnn.data.shapes.shape_drawing import CLASS_NAMES, LEAST_VISIBLE, MOST_COVERED, draw_shapes


@pytest.fixture(scope="module")
def many():
    return [draw_shapes(0, "train", index, 160, 6) for index in range(150)]


def test_written_as_a_coco_directory(tmp_path):
    data = ShapesDataset(tmp_path, "val", num_images=5, image_size=64, seed=3)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["annotations", "val2017"]
    again = CocoDetection(*find_coco(tmp_path, "val"))
    assert again.class_names == data.class_names == list(CLASS_NAMES)
    assert len(again) == len(data) == 5
    for (image, target), (same_image, same_target) in zip(data, again, strict=True):
        assert torch.equal(image, same_image)
        assert torch.equal(target.boxes, same_target.boxes)
    data.check_images(decode=True)
    assert (data.num_clipped, data.num_dropped, data.num_crowd) == (0, 0, 0)
    pixels, drawn = draw_shapes(3, "val", 2, 64, 4)
    image, target = data[2]
    assert target.boxes.tolist() == [list(shape.box) for shape in drawn]
    assert target.labels.tolist() == [shape.label for shape in drawn]
    assert [entry["area"] for entry in data.coco_ground_truth()["annotations"] if entry["image_id"] == 3] == [
        shape.area for shape in drawn
    ]
    assert (image.permute(1, 2, 0).numpy().astype(float) - pixels).std() < 8  # JPEG


def test_images_depend_on_their_own_number_alone(tmp_path):
    small = ShapesDataset(tmp_path / "small", num_images=3, image_size=64)
    large = ShapesDataset(tmp_path / "large", num_images=6, image_size=64)
    for index in range(3):
        assert torch.equal(small[index][0], large[index][0])
    others = [
        draw_shapes(1, "train", 0, 64, 6),
        draw_shapes(0, "val", 0, 64, 6),
        draw_shapes(0, "train", 1, 64, 6),
    ]
    pixels = draw_shapes(0, "train", 0, 64, 6)[0]
    assert np.array_equal(pixels, draw_shapes(0, "train", 0, 64, 6)[0])
    assert not any(np.array_equal(pixels, other) for other, _ in others)


def test_sizes_classes_and_padding_vary(many):
    areas = np.array([shape.area for _, drawn in many for shape in drawn])
    labels = np.bincount([shape.label for _, drawn in many for shape in drawn])
    assert (areas < 32**2).mean() > 0.25
    assert ((areas >= 32**2) & (areas <= 96**2)).mean() > 0.3
    assert (areas > 96**2).sum() >= 3
    assert len(labels) == len(CLASS_NAMES)
    assert labels.min() > 0.6 * labels.mean()
    counts = np.bincount([len(drawn) for _, drawn in many])
    assert counts[0] == 0
    assert len(counts) == 7
    heights, widths = np.array([pixels.shape[:2] for pixels, _ in many]).T
    assert heights.min() >= 128
    assert widths.max() <= 160
    assert len({*heights}) > 15


def test_boxes_are_inside_their_image_and_around_their_area(many):
    for pixels, drawn in many:
        height, width, _ = pixels.shape
        for label, (x1, y1, x2, y2), area in drawn:
            assert 0 <= x1 < x2 <= width
            assert 0 <= y1 < y2 <= height
            share = area / ((x2 - x1) * (y2 - y1))
            assert 0.15 < share <= 1, (CLASS_NAMES[label], share)


def test_no_box_is_covered_much(many):
    for pixels, drawn in many:
        for index, below in enumerate(drawn):
            covered = np.zeros(pixels.shape[:2], dtype=bool)
            for above in drawn[index + 1 :]:
                x1, y1, x2, y2 = (round(side) for side in above.box)
                covered[y1:y2, x1:x2] = True
            x1, y1, x2, y2 = (round(side) for side in below.box)
            assert covered[y1:y2, x1:x2].mean() < MOST_COVERED + 0.1  # boxes are rounded to pixels here
    assert LEAST_VISIBLE >= 0.4


def test_box_and_area_are_those_of_the_drawn_pixels(monkeypatch):
    def plain(random, height, width, colour, amplitude, period):
        is_background = amplitude == 0.15
        return np.full((height, width, 3), 0.0 if is_background else 1.0, dtype=np.float32)

    monkeypatch.setattr(shape_drawing, "draw_texture", plain)
    for index in range(60):
        pixels, (shape,) = draw_shapes(5, "train", index, 160, 1)
        # Noise is at most 0.05: a pixel is above 0.2 where the shape covers a part of it, and its mean over
        # the channels is how much.
        cover = pixels.mean(axis=2) / 255
        rows, columns = np.flatnonzero((cover > 0.2).any(axis=1)), np.flatnonzero((cover > 0.2).any(axis=0))
        found = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
        outward = (found - np.array(shape.box)) * [-1, -1, 1, 1]
        # Whole pixels around the box, less the slivers at pointed corners that cover too little of a pixel.
        assert outward.max() < 1, (index, outward)
        assert outward.min() > -1, (index, outward)
        assert abs((cover > 0.5).sum() - shape.area) < 0.05 * shape.area + 6


def test_shapes_stand_out_from_the_background(many):
    distances = []
    for pixels, drawn in many:
        if len(drawn) != 1 or CLASS_NAMES[drawn[0].label] not in ("circle", "square"):
            continue
        x1, y1, x2, y2 = (int(side) for side in drawn[0].box)
        middle = pixels[(y1 + y2) // 2 - 2 : (y1 + y2) // 2 + 3, (x1 + x2) // 2 - 2 : (x1 + x2) // 2 + 3]
        border = np.concatenate([pixels[:2].reshape(-1, 3), pixels[-2:].reshape(-1, 3)])
        distances.append(np.linalg.norm(middle.mean(axis=(0, 1)) - border.mean(axis=0)) / 255)
    assert len(distances) >= 3
    assert min(distances) > 0.2


def test_an_existing_data_set_is_reused(tmp_path, monkeypatch):
    ShapesDataset(tmp_path, num_images=2, image_size=64)

    def refuse(*_):
        raise AssertionError("drawn again")

    monkeypatch.setattr(shapes, "draw_shapes", refuse)
    assert len(ShapesDataset(tmp_path, num_images=2, image_size=64)) == 2


@pytest.mark.parametrize("changed", [{"num_images": 3}, {"image_size": 72}, {"seed": 1}, {"max_objects": 2}])
def test_other_settings_in_the_same_directory(tmp_path, changed):
    settings = {"num_images": 2, "image_size": 64}
    ShapesDataset(tmp_path, **settings)
    ((name, value),) = changed.items()
    default = {"num_images": 2, "image_size": 64, "seed": 0, "max_objects": 4}[name]
    with pytest.raises(ValueError, match=rf"'{name}': {default}\b.*, not .*'{name}': {value}\b"):
        ShapesDataset(tmp_path, **{**settings, **changed})


def test_a_foreign_directory_is_left_alone(tmp_path):
    (tmp_path / "train2017").mkdir()
    with pytest.raises(ValueError, match="train2017 exists but is no complete data set of shapes"):
        ShapesDataset(tmp_path, num_images=2, image_size=64)
    assert list((tmp_path / "train2017").iterdir()) == []
    assert [path.name for path in tmp_path.iterdir()] == ["train2017"]


def test_annotations_of_other_settings_are_noticed(tmp_path):
    ShapesDataset(tmp_path / "a", num_images=2, image_size=64)
    ShapesDataset(tmp_path / "b", num_images=2, image_size=64, seed=1)
    name = "annotations/instances_train2017.json"
    shutil.copy(tmp_path / "b" / name, tmp_path / "a" / name)
    with pytest.raises(
        ValueError, match=r"instances_train2017\.json has shapes with the settings .*'seed': 1"
    ):
        ShapesDataset(tmp_path / "a", num_images=2, image_size=64)


def test_an_interrupted_run_leaves_nothing_half_written(tmp_path, monkeypatch):
    def stop(seed, split, index, *sizes):
        if index == 2:
            raise KeyboardInterrupt
        return draw_shapes(seed, split, index, *sizes)

    with monkeypatch.context() as patched:
        patched.setattr(shapes, "draw_shapes", stop)
        with pytest.raises(KeyboardInterrupt):
            ShapesDataset(tmp_path, num_images=4, image_size=64)
    assert [path.name for path in tmp_path.rglob("*")] == ["annotations"]
    assert len(ShapesDataset(tmp_path, num_images=4, image_size=64)) == 4


@pytest.mark.parametrize("seed", [0, 1])
def test_another_process_finishes_first(tmp_path, monkeypatch, seed):
    other = ShapesDataset(tmp_path / "other", num_images=2, image_size=64, seed=seed)
    rename = os.rename

    def lose(source, target):
        monkeypatch.undo()
        shutil.copytree(tmp_path / "other" / "train2017", target)
        rename(source, target)

    monkeypatch.setattr(shapes.os, "rename", lose)
    if seed == 0:
        data = ShapesDataset(tmp_path / "root", num_images=2, image_size=64)
        assert torch.equal(data[1][0], other[1][0])
    else:
        with pytest.raises(ValueError, match=r"train2017 has shapes with the settings .*'seed': 1"):
            ShapesDataset(tmp_path / "root", num_images=2, image_size=64)
    assert sorted(path.name for path in (tmp_path / "root").iterdir()) == ["annotations", "train2017"]


@pytest.mark.parametrize(
    "wrong", [{"num_images": 0}, {"image_size": 47}, {"seed": -1}, {"max_objects": 0}, {"split": "test"}]
)
def test_impossible_settings(tmp_path, wrong):
    with pytest.raises(ValueError, match=f"^{next(iter(wrong))} must be "):
        ShapesDataset(tmp_path, **wrong)
    assert list(tmp_path.iterdir()) == []


def test_settings_are_written_beside_the_images(tmp_path):
    ShapesDataset(tmp_path, num_images=2, image_size=64)
    written = json.loads((tmp_path / "train2017" / "shapes.json").read_text())
    assert written["num_images"] == 2
    assert written["image_size"] == 64
