"""Tiles and augmentation: each object is found once, at its place."""

import itertools

import pytest
import torch

from sparse_rcnn.inference import Detector
from sparse_rcnn.inference.merging import merge_augmented, merge_tiles
from sparse_rcnn.inference.views import View, augmented, tiles_of


def find_squares(images, image_sizes):
    """A box around the red pixels, and one around the green pixels."""
    rows = []
    for image, (height, width) in zip(images, image_sizes.tolist(), strict=True):
        found = []
        for label in (0, 1):
            mask = image[label, :height, :width] > 127
            if mask.any():
                ys, xs = mask.nonzero().unbind(1)
                found.append([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1, 0.9 - label / 10, label])
        rows.append(torch.tensor(found + [[0, 0, 0, 0, 0.01, 0]] * (2 - len(found))))
    table = torch.stack(rows).float()
    return table[..., :4], table[..., 4], table[..., 5].long()


@pytest.fixture
def detector():
    return Detector(find_squares, ["red", "green"], 100, 200)


@pytest.fixture
def large():
    image = torch.zeros(3, 430, 610, dtype=torch.uint8)
    image[1, 60:90, 250:290] = 250  # a border cuts it in each tile of one column
    image[0, 300:340, 20:50] = 250
    return image


@pytest.mark.parametrize(("side", "overlap"), [(100, 0.5), (200, 0.25), (500, 0.0), (128, 0.3)])
def test_tiles_cover_the_photo_and_overlap_as_asked(large, side, overlap):
    whole, *tiles = tiles_of(large, side, overlap)
    assert whole.image.shape == large.shape
    covered = torch.zeros(430, 610)
    for tile in tiles:
        height, width = tile.image.shape[1:]
        assert (height, width) == (min(side, 430), min(side, 610))
        assert torch.equal(tile.image, large[:, tile.y : tile.y + height, tile.x : tile.x + width])
        covered[tile.y : tile.y + height, tile.x : tile.x + width] += 1
    assert covered.min() >= 1
    xs = sorted({tile.x for tile in tiles})
    assert all(b - a <= side * (1 - overlap) + 1 for a, b in itertools.pairwise(xs))
    assert len(tiles_of(large, 700, overlap)) == 1


def test_each_object_is_found_once_across_tiles(detector, large):
    found = detector(large, 0.1, tile=150, overlap=0.2, batch_size=3)
    assert sorted(found.names) == ["green", "red"]
    for one in found:
        expected = [20, 300, 50, 340] if one.name == "red" else [250, 60, 290, 90]
        assert one.box == pytest.approx(expected, abs=3)


def test_nothing_is_merged_within_a_tile_or_of_two_classes():
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 10], [0, 0, 10, 10], [1, 0, 10, 10]])
    scores, no = torch.tensor([0.9, 0.8, 0.7, 0.6]), torch.zeros(4, dtype=torch.bool)
    labels, views = torch.tensor([0, 0, 1, 0]), torch.tensor([0, 0, 1, 1])
    merged = merge_tiles(boxes, scores, labels, views, no)
    torch.testing.assert_close(merged.scores, torch.tensor([0.9, 0.8, 0.7]))
    assert torch.equal(merged.boxes[0], boxes[0])  # whole boxes stay as the better one is


def test_a_cut_box_grows_to_the_whole_one_and_a_whole_one_inside_stays():
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 40, 10], [2, 2, 5, 5]])
    scores, labels, views = torch.tensor([0.9, 0.8, 0.7]), torch.zeros(3).long(), torch.tensor([1, 0, 2])
    merged = merge_tiles(boxes, scores, labels, views, torch.tensor([True, False, False]))
    assert merged.boxes[0].tolist() == [0, 0, 40, 10]
    whole = merge_tiles(boxes, scores, labels, views, torch.tensor([False, False, False]))
    assert len(whole.scores) == 3  # objects in front of each other
    nothing = merge_tiles(boxes[:0], scores[:0], labels[:0], views[:0], torch.zeros(0, dtype=torch.bool))
    assert nothing.boxes.shape == (0, 4)


def test_borders_of_the_photo_cut_nothing():
    view = View(torch.zeros(3, 50, 50), x=50, y=0)
    boxes = torch.tensor([[50.5, 10, 70, 20], [70, 0, 100, 10], [60, 30, 70, 50], [60, 5, 70, 9]])
    assert view.cuts(boxes, (100, 100)).tolist() == [True, False, True, False]


def test_augmentation_finds_the_same_where_all_views_agree(detector, large):
    plain, found = detector(large, 0.1), detector(large, 0.1, augment=True)
    assert found.names == plain.names
    torch.testing.assert_close(found.boxes, plain.boxes, rtol=0, atol=4)
    torch.testing.assert_close(found.scores, plain.scores, rtol=0, atol=1e-6)
    assert len(augmented(large)) == 6


def test_means_over_views():
    boxes = torch.tensor([[0.0, 0, 10, 10], [2, 0, 10, 10], [50, 50, 60, 60], [1, 0, 10, 10]])
    scores, views = torch.tensor([0.6, 0.3, 0.9, 0.2]), torch.tensor([0, 1, 1, 1])
    merged = merge_augmented(boxes, scores, torch.zeros(4).long(), views, num_views=2)
    torch.testing.assert_close(merged.scores, torch.tensor([0.45, 0.45, 0.1]))
    first = merged.boxes[merged.boxes[:, 0] < 40][0]
    torch.testing.assert_close(first, torch.tensor([2 * 0.3 / 0.9, 0, 10, 10]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tile": 31}, "tile must be at least 32, got 31"),
        ({"tile": 64, "overlap": 0.95}, r"overlap must be in 0\.\.0\.9, got 0\.95"),
        ({"tile": 64, "augment": True}, "tile and augment cannot be used together"),
    ],
)
def test_options_out_of_bounds(detector, large, options, message):
    with pytest.raises(ValueError, match=message):
        detector(large, **options)
