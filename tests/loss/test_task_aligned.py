"""Task-aligned assignment against a loop, and its loss."""

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies import boxes_of, coordinates, seeds, target_sets
from torch.testing import assert_close
from torchvision.ops import box_iou, generalized_box_iou

from sparse_rcnn.loss import dense_prediction_loss, task_aligned_assignment

MOST = 3


@st.composite
def cases(draw, classes=3):
    """Logits, boxes, points, target boxes, labels and valid: the arguments in their order."""
    batch, count = draw(st.integers(1, 2)), draw(st.integers(1, 8))
    targets = draw(target_sets(batch, classes, 4))
    box = boxes_of(*[coordinates(0, 32)] * 2, *[coordinates(1, 32)] * 2)
    boxes = torch.tensor(draw(st.lists(box, min_size=batch * count, max_size=batch * count)))
    generator = torch.Generator().manual_seed(draw(seeds()))
    logits = torch.randn(batch, count, classes, generator=generator, dtype=torch.float64)
    points = torch.rand(count, 2, generator=generator, dtype=torch.float64) * 40
    labels = targets.labels.clamp(max=classes - 1)
    boxes = boxes.reshape(batch, count, 4).double()
    return logits, boxes, points, targets.boxes, labels, targets.valid


def by_loop(logits, boxes, points, target_boxes, labels, valid):
    owner = torch.full(logits.shape[:2], -1)
    quality = torch.zeros(logits.shape[:2], dtype=torch.float64)
    for image in range(len(logits)):
        for target in range(valid.shape[1]):
            if not valid[image, target]:
                continue
            x1, y1, x2, y2 = target_boxes[image, target].tolist()
            inside = [i for i, (x, y) in enumerate(points.tolist()) if x1 < x < x2 and y1 < y < y2]
            iou = box_iou(target_boxes[image, target][None], boxes[image])[0]
            score = logits[image, :, labels[image, target]].sigmoid()
            inside.sort(key=lambda i: -float(score[i] ** 0.5 * iou[i] ** 4))
            for position in inside[:MOST]:
                if owner[image, position] < 0 or iou[position] > quality[image, position]:
                    owner[image, position], quality[image, position] = target, iou[position]
    return owner, quality


@given(cases())
def test_a_loop_agrees(case):
    owner, quality = task_aligned_assignment(*case, most=MOST)
    expected_owner, expected_quality = by_loop(*case)
    # Alignments of 0 are all alike (boxes far from the target): any of the positions will do.
    certain = (quality > 0) | (expected_quality > 0)
    assert torch.equal(owner[certain], expected_owner[certain])
    assert_close(quality, expected_quality, rtol=1e-9, atol=1e-12)


@given(cases())
def test_no_target_has_more_than_its_share_or_a_position_outside(case):
    _, _, points, target_boxes, _, valid = case
    owner, quality = task_aligned_assignment(*case, most=MOST)
    for image, row in enumerate(owner.tolist()):
        for position, target in enumerate(row):
            if target >= 0:
                assert valid[image, target]
                box, point = target_boxes[image, target], points[position]
                assert (box[:2] < point).all()
                assert (point < box[2:]).all()
        assert all(row.count(target) <= MOST for target in range(valid.shape[1]))
    assert (quality[owner < 0] == 0).all()


@given(cases(), st.randoms(use_true_random=False))
def test_permuted_images_permute_the_assignment(case, random):
    order = list(range(len(case[0])))
    random.shuffle(order)
    permuted = [part if index == 2 else part[order] for index, part in enumerate(case)]
    for mine, theirs in zip(task_aligned_assignment(*permuted), task_aligned_assignment(*case), strict=True):
        assert torch.equal(mine, theirs[order])


def test_the_published_example():
    """The figures of mmdetection's own test: the first position takes the first target."""
    scores = torch.tensor([[0.1, 0.2], [0.2, 0.3], [0.3, 0.4], [0.4, 0.5]])
    boxes = torch.tensor([[1.0, 1, 12, 8], [4, 4, 20, 20], [1, 5, 15, 15], [30, 5, 32, 42]])
    points = torch.tensor([[5.0, 5], [15, 15], [10, 10], [35, 37]])
    targets = torch.tensor([[0.0, 0, 10, 9], [0, 10, 10, 19]])
    owner, quality = task_aligned_assignment(
        scores.logit()[None],
        boxes[None],
        points,
        targets[None],
        torch.tensor([[0, 1]]),
        torch.ones(1, 2, dtype=torch.bool),
        13,
    )
    assert owner.tolist() == [[0, -1, -1, -1]]
    assert quality[0, 0].item() == pytest.approx(63 / (77 + 90 - 63))


@given(cases())
def test_the_loss_is_that_of_the_assigned_positions(case):
    logits, boxes, points, target_boxes, labels, _ = case
    found = dense_prediction_loss(*case, torch.tensor(2.0), most=MOST)
    owner, quality = task_aligned_assignment(*case, most=MOST)
    classification, giou = 0.0, 0.0
    for image, position in itertools.product(range(len(logits)), range(len(points))):
        target, wanted = int(owner[image, position]), torch.zeros(logits.shape[2], dtype=torch.float64)
        if target >= 0:
            weight = max(float(quality[image, position]), 0.05)
            wanted[labels[image, target]] = weight
            pair = boxes[image, position][None], target_boxes[image, target][None]
            giou += weight * (1 - generalized_box_iou(*pair).item())
        p = logits[image, position].sigmoid()
        entropy = -(wanted * p.log() + (1 - wanted) * (1 - p).log())
        classification += float((entropy * torch.where(wanted > 0, wanted, 0.75 * p**2)).sum())
    assert found.classification.item() == pytest.approx(classification / 3, rel=1e-6)
    assert found.giou.item() == pytest.approx(2 * giou / 3, rel=1e-6, abs=1e-9)
    assert found.total.item() == pytest.approx(found.classification.item() + found.giou.item())


def test_parts_of_a_batch_add_up():
    torch.manual_seed(0)
    logits, boxes, points = torch.randn(2, 9, 3), torch.rand(2, 9, 2).mul(20), torch.rand(9, 2) * 40
    boxes = torch.cat((boxes, boxes + 20), dim=2)
    targets = torch.tensor([[[0.0, 0, 30, 30], [10, 10, 40, 40]]]).expand(2, -1, -1)
    labels, valid = torch.tensor([[0, 2], [1, 1]]), torch.tensor([[True, True], [True, False]])
    number = torch.tensor(3)
    whole = dense_prediction_loss(logits, boxes, points, targets, labels, valid, number).total
    parts = [
        dense_prediction_loss(
            logits[i : i + 1],
            boxes[i : i + 1],
            points,
            targets[i : i + 1],
            labels[i : i + 1],
            valid[i : i + 1],
            number,
        ).total
        for i in range(2)
    ]
    assert_close(torch.stack(parts).sum(), whole)


@pytest.mark.parametrize(
    ("index", "shape", "named"),
    [
        (1, (2, 9, 3), "boxes"),
        (2, (8, 2), "points"),
        (3, (2, 1, 4), "target_boxes"),
        (5, (2, 3), "target_valid"),
    ],
)
def test_shapes_that_do_not_fit_are_named(index, shape, named):
    arguments = [
        *(torch.zeros(2, 9, 3), torch.zeros(2, 9, 4), torch.zeros(9, 2), torch.zeros(2, 2, 4)),
        *(torch.zeros(2, 2, dtype=torch.int64), torch.ones(2, 2, dtype=torch.bool)),
    ]
    arguments[index] = torch.zeros(shape, dtype=arguments[index].dtype)
    with pytest.raises(ValueError, match=named):
        task_aligned_assignment(*arguments)


def test_numbers_and_targets_that_are_none_are_named():
    inputs = [torch.zeros(1, 2, 3), torch.zeros(1, 2, 4), torch.zeros(2, 2), torch.zeros(1, 1, 4)]
    labels, valid, number = torch.zeros(1, 1, dtype=torch.int64), torch.ones(1, 1, dtype=torch.bool), 1.0
    for wrong, named in (
        ({"target_labels": labels + 3}, r"target_labels must be in 0\.\.2, got 3"),
        ({"target_valid": valid.long()}, "target_valid must be bool"),
        ({"num_targets": float("nan")}, "num_targets must be finite"),
        ({"giou_weight": -1.0}, "giou_weight must be in"),
        ({"most": 2.0}, "most must be a whole number"),
    ):
        named_ones = {"target_labels": labels, "target_valid": valid, "num_targets": number, **wrong}
        with pytest.raises(ValueError, match=named):
            dense_prediction_loss(*inputs, **named_ones)
