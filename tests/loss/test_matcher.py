import pytest
import scipy.optimize
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies import boxes_of, coordinates, seeds, target_sets

from sparse_rcnn.loss import LossWeights, match_proposals, matching_cost


@st.composite
def cases(draw, classes=3, max_targets=4):
    """Logits [L, B, N, K], boxes, target boxes, labels, valid, image sizes: the arguments in their order."""
    stages, batch, count = draw(st.integers(1, 2)), draw(st.integers(1, 2)), draw(st.integers(1, 4))
    targets = draw(target_sets(batch, classes, max_targets))
    total = stages * batch * count
    box = boxes_of(*[coordinates(0, 32)] * 2, *[coordinates(1, 32)] * 2)
    boxes = torch.tensor(draw(st.lists(box, min_size=total, max_size=total)), dtype=torch.float64)
    generator = torch.Generator().manual_seed(draw(seeds()))
    logits = torch.randn(stages, batch, count, classes, generator=generator, dtype=torch.float64)
    # All labels are classes: the matcher does not promise to take others.
    labels = targets.labels.clamp(max=classes - 1)
    sizes = torch.randint(32, 80, (batch, 2), generator=generator)
    return logits, boxes.reshape(stages, batch, count, 4), targets.boxes, labels, targets.valid, sizes


def by_scipy(logits, boxes, target_boxes, labels, valid, sizes):
    """One image of one stage at a time, padding cut off before."""
    indices = torch.full((*logits.shape[:2], valid.shape[1]), -1)
    for stage in range(logits.shape[0]):
        for image in range(logits.shape[1]):
            (columns,) = valid[image].nonzero(as_tuple=True)
            cost = matching_cost(
                logits[stage, image : image + 1],
                boxes[stage, image : image + 1],
                target_boxes[image : image + 1, columns],
                labels[image : image + 1, columns],
                sizes[image : image + 1],
            )
            for row, column in zip(*scipy.optimize.linear_sum_assignment(cost[0].numpy()), strict=True):
                indices[stage, image, columns[column]] = row
    return indices


@given(cases())
def test_scipy_agrees_on_every_image_and_stage(case):
    indices = match_proposals(*case)
    assert indices.dtype == torch.int64
    assert torch.equal(indices, by_scipy(*case))


@given(cases())
def test_every_valid_target_has_its_own_proposal_while_there_are_any(case):
    indices, valid, count = match_proposals(*case), case[4], case[0].shape[2]
    for stage in indices:
        for image, rows in enumerate(stage):
            matched = rows[rows >= 0].tolist()
            assert len(set(matched)) == len(matched) == min(count, int(valid[image].sum()))
            assert rows[~valid[image]].eq(-1).all()


@given(cases(), seeds())
def test_targets_can_come_in_any_order(case, seed):
    logits, boxes, target_boxes, labels, valid, sizes = case
    order = torch.randperm(valid.shape[1], generator=torch.Generator().manual_seed(seed))
    permuted = match_proposals(
        logits, boxes, target_boxes[:, order], labels[:, order], valid[:, order], sizes
    )
    assert torch.equal(permuted, match_proposals(*case)[..., order])


@given(cases(), seeds())
def test_proposals_can_come_in_any_order(case, seed):
    logits, boxes, *rest = case
    order = torch.randperm(logits.shape[2], generator=torch.Generator().manual_seed(seed))
    permuted = match_proposals(logits[:, :, order], boxes[:, :, order], *rest)
    back = torch.where(permuted >= 0, order[permuted.clamp(min=0)], permuted)
    assert torch.equal(back, match_proposals(*case))


def make_case(num_targets=2, count=3):
    """Proposal n is exactly target n, with a high score."""
    boxes = torch.tensor([[10.0 * n, 10.0 * n, 10.0 * n + 8, 10.0 * n + 8] for n in range(5)])
    labels = torch.arange(5) % 2
    logits = torch.where(torch.nn.functional.one_hot(labels, 2).bool(), 4.0, -4.0)
    valid = torch.ones(1, num_targets, dtype=torch.bool)
    targets = boxes[None, :num_targets], labels[None, :num_targets], valid, torch.tensor([[60, 60]])
    return logits[None, None, :count], boxes[None, None, :count].clone(), *targets


def test_perfect_predictions_find_their_targets():
    assert match_proposals(*make_case(3, 5)).tolist() == [[[0, 1, 2]]]


def test_without_stages():
    logits, boxes, *rest = make_case()
    assert match_proposals(logits[0], boxes[0], *rest).tolist() == [[0, 1]]


def test_more_targets_than_proposals_leave_the_worst_fitting_over():
    assert match_proposals(*make_case(5, 2)).tolist() == [[[0, 1, -1, -1, -1]]]


def test_no_targets():
    assert match_proposals(*make_case(0)).shape == (1, 1, 0)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_proposal_that_is_not_finite_never_wins(value):
    logits, boxes, *rest = make_case()
    boxes[0, 0, 0, 2] = value
    assert match_proposals(logits, boxes, *rest)[0, 0, 0] != 0
    logits, boxes, *rest = make_case()
    logits[0, 0, 0] = float("nan")
    assert match_proposals(logits, boxes, *rest)[0, 0, 0] != 0


def test_targets_that_only_proposals_of_nan_are_left_for_stay_alone():
    logits, boxes, *rest = make_case(3, 3)
    boxes[0, 0, 1:] = float("nan")
    assert match_proposals(logits, boxes, *rest).tolist() == [[[0, -1, -1]]]


def test_nothing_finite_at_all_matches_nothing():
    logits, boxes, *rest = make_case()
    assert match_proposals(logits * float("nan"), boxes * float("nan"), *rest).tolist() == [[[-1, -1]]]


def test_weights_reach_the_cost():
    # The first proposal has the class, the second the box.
    logits, boxes, *rest = make_case(1, 2)
    boxes = boxes.flip(2)
    assert match_proposals(logits, boxes, *rest, LossWeights(1.0, 0.0, 0.0)).tolist() == [[[0]]]
    assert match_proposals(logits, boxes, *rest, LossWeights(0.0, 1.0, 0.0)).tolist() == [[[1]]]
    assert match_proposals(logits, boxes, *rest, LossWeights(0.0, 0.0, 1.0)).tolist() == [[[1]]]


def test_no_gradient():
    logits, boxes, *rest = make_case()
    assert not match_proposals(logits.requires_grad_(), boxes.requires_grad_(), *rest).requires_grad
