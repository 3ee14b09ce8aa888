"""Strong augmentation: boxes in a mosaic, repeatability, and the light last part."""

import pytest
import torch
from torchvision import tv_tensors

from sparse_rcnn.data import AugmentedDataset, Draw, SeededDataset, ShapesDataset, Target, strong_transform
from sparse_rcnn.data.loading.augmentation import mosaic_of


def sample(height, width, value):
    """An image of one value, and a box around all of it."""
    boxes = torch.tensor([[0.0, 0.0, width, height]])
    image = torch.full((3, height, width), value, dtype=torch.uint8)
    return image, Target(boxes, torch.tensor([value]), value, (height, width))


def test_images_of_a_mosaic_meet_in_one_point_and_their_boxes_hold_them():
    samples = [sample(20, 40, 10), sample(40, 20, 20), sample(30, 60, 30), sample(16, 16, 40)]
    image, target = mosaic_of(samples)
    assert image.shape == (3, 35, 40)  # half of 40 + 30 and of 60 + 20
    # x0, y0, x1, y1 around (30, 20), the middle.
    expected = [[10, 10, 30, 20], [30, 0, 40, 20], [0, 20, 30, 35], [30, 20, 38, 28]]
    assert target.boxes.tolist() == expected
    assert target.labels.tolist() == [10, 20, 30, 40]
    for (x0, y0, x1, y1), value in zip(expected, target.labels, strict=True):
        assert (image[:, y0 + 1 : y1 - 1, x0 + 1 : x1 - 1] == value).all()
    assert (image[:, :9, :9] == 114).all()
    with pytest.raises(ValueError, match="4 images, got 3"):
        mosaic_of(samples[:3])


def test_an_image_without_boxes_stays_and_boxes_stay_inside():
    transform = strong_transform((64,), 128)
    for seed in range(20):
        torch.manual_seed(seed)
        count = seed % 3
        boxes = torch.tensor([[10.0, 10, 40, 50], [30, 20, 90, 70]])[:count]
        wrapped = tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=(80, 100))
        image = tv_tensors.Image(torch.zeros(3, 80, 100, dtype=torch.uint8))
        image, objects = transform(image, {"boxes": wrapped, "labels": torch.arange(count)})
        found, (height, width) = objects["boxes"].as_subclass(torch.Tensor), image.shape[1:]
        assert min(height, width) <= 64
        assert len(found) == len(objects["labels"])
        assert (found >= 0).all()
        assert (found[:, 2:] <= torch.tensor([width, height])).all()
        assert (found[:, 2:] > found[:, :2]).all()


def test_the_same_draw_is_the_same_and_the_last_part_is_calm(tmp_path):
    shapes = ShapesDataset(tmp_path, num_images=6, image_size=64)
    strong = AugmentedDataset(shapes, 3, strong_transform((48, 64)), 0.9, 0.5, mosaic=1.0)
    for draw in (Draw(1, 0), Draw(1, 3, 0.89)):
        first, again = strong[draw], strong[draw]
        assert torch.equal(first[0], again[0])
        assert torch.equal(first[1].boxes, again[1].boxes)
    assert not torch.equal(strong[Draw(1, 0)][0], strong[Draw(1, 1)][0])
    counts = [len(shapes[index][1].labels) for index in range(6)]
    assert len(strong[Draw(1, 1, 0.49)][1].labels) > max(counts)  # four images in one
    assert len(strong[Draw(1, 1, 0.5)][1].labels) <= max(counts)
    calm = SeededDataset(shapes, 3)[Draw(1, 4)][0]
    assert not torch.equal(strong[Draw(1, 4, 0.89)][0], calm)
    assert torch.equal(strong[Draw(1, 4, 0.9)][0], calm)
    assert torch.equal(calm, shapes[1][0])


def test_the_first_epochs_are_calm_if_asked(tmp_path):
    shapes = ShapesDataset(tmp_path, num_images=6, image_size=64)
    transform = strong_transform((48, 64))
    strong = AugmentedDataset(shapes, 3, transform, until=0.9, mosaic_until=0)
    late = AugmentedDataset(shapes, 3, transform, until=0.9, mosaic_until=0, first_epoch=2)
    calm = SeededDataset(shapes, 3)
    for epoch in range(4):
        expected = strong if epoch >= 2 else calm
        for index in range(6):
            assert torch.equal(late[Draw(index, epoch)][0], expected[Draw(index, epoch)][0])
    assert not torch.equal(strong[Draw(1, 2)][0], calm[Draw(1, 2)][0])
