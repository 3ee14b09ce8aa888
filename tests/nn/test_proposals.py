import math

import pytest
import torch

from sparse_rcnn.nn import Proposals
from sparse_rcnn.nn.proposals import PROPOSAL_INITS, initial_boxes
from sparse_rcnn.ops import cxcywh_to_xyxy

COUNTS = [1, 2, 3, 5, 7, 12, 20, 64, 100, 101]


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("init", PROPOSAL_INITS)
def test_shape_and_range(init, count):
    boxes = initial_boxes(init, count)
    assert boxes.shape == (count, 4)
    assert boxes.dtype == torch.float32
    assert (boxes[:, :2] >= 0).all()
    assert (boxes[:, :2] <= 1).all()
    assert (boxes[:, 2:] > 0).all()
    assert (boxes[:, 2:] <= 1).all()


@pytest.mark.parametrize(("init", "box"), [("image", [0.5, 0.5, 1, 1]), ("center", [0.5, 0.5, 0.1, 0.1])])
def test_equal_boxes(init, box):
    assert torch.equal(initial_boxes(init, 5), torch.tensor([box] * 5))


@pytest.mark.parametrize("count", COUNTS)
def test_grid_boxes_do_not_overlap_and_stay_inside(count):
    boxes = cxcywh_to_xyxy(initial_boxes("grid", count)).double()
    assert boxes.min() >= -1e-6
    assert boxes.max() <= 1 + 1e-6
    low = torch.maximum(boxes[:, None, :2], boxes[None, :, :2])
    high = torch.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
    overlap = (high - low).clamp(min=0).prod(-1)
    assert overlap.fill_diagonal_(0).max() < 1e-6


@pytest.mark.parametrize("count", COUNTS)
def test_grid_covers_all_but_the_end_of_the_last_row(count):
    boxes = initial_boxes("grid", count).double()
    rows = boxes[:, 1].unique().tolist()
    per_row = [int((boxes[:, 1] == row).sum()) for row in rows]
    assert len(set(per_row[:-1])) <= 1
    assert per_row[-1] <= per_row[0]
    for row, number in zip(rows[:-1], per_row, strict=False):
        assert boxes[boxes[:, 1] == row, 2].sum() == pytest.approx(1, abs=1e-6), number
    heights = [boxes[boxes[:, 1] == row, 3][0].item() for row in rows]
    assert sum(heights) == pytest.approx(1, abs=1e-6)
    assert abs(len(rows) - math.sqrt(count)) <= 1


def test_random_boxes_differ_and_follow_the_seed():
    torch.manual_seed(0)
    boxes = initial_boxes("random", 50)
    assert boxes.unique(dim=0).shape[0] == 50
    torch.manual_seed(0)
    assert boxes.equal(initial_boxes("random", 50))


def test_unknown_init_is_named():
    with pytest.raises(ValueError, match="'corner'"):
        initial_boxes("corner", 3)


@pytest.mark.parametrize("count", [0, -1])
def test_no_proposals(count):
    with pytest.raises(ValueError, match=f"num_proposals must be at least 1, got {count}"):
        Proposals(count, 8)


def test_boxes_follow_the_image_sizes():
    proposals = Proposals(3, 8, "center")
    boxes, _ = proposals(torch.tensor([[100, 200], [50, 10]]))
    expected = torch.tensor([[90.0, 45.0, 110.0, 55.0], [4.5, 22.5, 5.5, 27.5]])
    torch.testing.assert_close(boxes, expected[:, None].expand(2, 3, 4))


def test_features_are_shared_by_the_batch():
    proposals = Proposals(3, 8)
    _, features = proposals(torch.tensor([[100, 200], [50, 10]]))
    assert features.shape == (1, 3, 8)
    assert features[0].equal(proposals.features)


def test_both_are_learned():
    assert {name for name, parameter in Proposals(3, 8).named_parameters() if parameter.requires_grad} == {
        "boxes_norm_cxcywh",
        "features",
    }


def test_boxes_learn_from_the_first_stage_only(build_small, batch):
    model = build_small()
    predictions = model(*batch)
    parameter = model.proposals.boxes_norm_cxcywh
    (first,) = torch.autograd.grad(predictions.boxes[0].sum(), parameter, retain_graph=True)
    assert (first.abs().sum(1) > 0).all()
    later = predictions.boxes[1].sum() + predictions.logits.sum()
    (second,) = torch.autograd.grad(later, parameter, materialize_grads=True)
    assert (second == 0).all()


def test_features_learn_from_every_stage(build_small, batch):
    model = build_small()
    predictions = model(*batch)
    for logits in predictions.logits:
        (gradient,) = torch.autograd.grad(logits.sum(), model.proposals.features, retain_graph=True)
        assert gradient.abs().sum() > 0
