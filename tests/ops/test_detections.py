import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import any_boxes, box_sets, image_sizes, seeds
from torch.testing import assert_close

from sparse_rcnn.ops import select_detections


@st.composite
def predictions(draw):
    """Logits without ties [B, N, K], boxes [B, N, 4], true sizes and original sizes [B, 2]."""
    batch, count, classes = draw(st.integers(1, 3)), draw(st.integers(0, 5)), draw(st.integers(1, 4))
    entries = batch * count * classes
    order = torch.randperm(entries, generator=torch.Generator().manual_seed(draw(seeds())))
    logits = (order.double() / max(entries, 1) * 8 - 4).reshape(batch, count, classes)
    boxes = draw(box_sets(any_boxes(), batch * count, batch * count)).reshape(batch, count, 4)
    return logits, boxes, draw(image_sizes(batch)), draw(image_sizes(batch))


def sorted_by_loop(logits, boxes, sizes, originals, limit):
    """A list of (score, label, box) for each image."""
    results = []
    for image, (height, width) in enumerate(sizes.tolist()):
        found = []
        for row, box in zip(logits[image].tolist(), boxes[image].tolist(), strict=True):
            limits = [width, height, width, height]
            clipped = [min(max(edge, 0.0), limit) for edge, limit in zip(box, limits, strict=True)]
            if originals is not None:
                new = [originals[image, 1].item(), originals[image, 0].item()] * 2
                clipped = [edge / old * side for edge, old, side in zip(clipped, limits, new, strict=True)]
            found += [(1 / (1 + math.exp(-logit)), label, clipped) for label, logit in enumerate(row)]
        results.append(sorted(found, reverse=True)[:limit])
    return results


@given(predictions(), st.integers(1, 25), st.booleans())
@settings(max_examples=4 * settings.default.max_examples)
def test_against_a_sorted_loop(batch, limit, rescale):
    logits, boxes, sizes, originals = batch
    originals = originals if rescale else None
    detections = select_detections(logits, boxes, sizes, limit, originals)
    depth = min(limit, logits.shape[1] * logits.shape[2])
    assert detections.boxes.shape == (len(logits), depth, 4)
    assert detections.scores.shape == detections.labels.shape == (len(logits), depth)
    assert detections.labels.dtype == torch.int64
    for image, expected in enumerate(sorted_by_loop(logits, boxes, sizes, originals, limit)):
        assert detections.labels[image].tolist() == [label for _, label, _ in expected]
        scores = torch.tensor([score for score, _, _ in expected], dtype=torch.float64)
        assert_close(detections.scores[image], scores, rtol=0, atol=1e-12)
        expected_boxes = torch.tensor([box for _, _, box in expected], dtype=torch.float64).reshape(-1, 4)
        # The factor of float64 boxes is a float64, too.
        assert_close(detections.boxes[image], expected_boxes, rtol=1e-12, atol=1e-9)


@given(predictions(), seeds())
def test_proposals_can_come_in_any_order(batch, seed):
    logits, boxes, sizes, _ = batch
    order = torch.randperm(logits.shape[1], generator=torch.Generator().manual_seed(seed))
    expected = select_detections(logits, boxes, sizes)
    for mine, theirs in zip(
        select_detections(logits[:, order], boxes[:, order], sizes), expected, strict=True
    ):
        # Vectorised and scalar sigmoid, by position, may differ in the last bit.
        assert_close(mine, theirs, rtol=0, atol=1e-12)


def test_more_asked_for_than_there_are():
    detections = select_detections(torch.zeros(2, 3, 4), torch.zeros(2, 3, 4), torch.ones(2, 2), 100)
    assert detections.scores.shape == (2, 12)


def test_ties_still_list_every_pair_of_proposal_and_class_once():
    boxes = torch.arange(3.0)[None, :, None].expand(2, 3, 4)
    detections = select_detections(torch.zeros(2, 3, 4), boxes, torch.full((2, 2), 10), 12)
    for image in range(2):
        found = zip(detections.boxes[image, :, 0].tolist(), detections.labels[image].tolist(), strict=True)
        assert sorted(found) == [(proposal, label) for proposal in range(3) for label in range(4)]


def test_nan_outranks_nothing():
    logits = torch.tensor([[[float("nan"), -50.0], [float("nan"), -100.0]]], dtype=torch.float64)
    detections = select_detections(logits, torch.zeros(1, 2, 4), torch.ones(1, 2))
    assert detections.labels[0, :2].tolist() == [1, 1]
    assert (detections.scores[0, :2] > 0).all()
    assert detections.scores[0, 2:].tolist() == [0, 0]


def test_infinite_logits_are_certain():
    logits = torch.tensor([[[-float("inf"), float("inf"), 0.0]]])
    detections = select_detections(logits, torch.zeros(1, 1, 4), torch.ones(1, 2))
    assert detections.labels.tolist() == [[1, 2, 0]]
    assert detections.scores.tolist() == [[1.0, 0.5, 0.0]]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_arithmetic_is_float32_at_least(dtype):
    logits = torch.tensor([[[0.1], [0.7]]]).to(dtype)
    boxes = torch.tensor([[[1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 2000.0, 2000.0]]]).to(dtype)
    sizes, originals = torch.tensor([[801, 1333]]), torch.tensor([[481, 641]])
    detections = select_detections(logits, boxes, sizes, 100, originals)
    expected = select_detections(logits.float(), boxes.float(), sizes, 100, originals)
    for mine, theirs in zip(detections[:2], expected[:2], strict=True):
        assert mine.dtype == torch.float32
        assert torch.equal(mine, theirs)


@pytest.mark.parametrize(
    ("logits_shape", "boxes_shape"),
    [
        ((3, 4), (3, 4)),
        ((1, 3, 4), (1, 2, 4)),
        ((1, 3, 4), (1, 3, 5)),
        ((1, 3, 4), (2, 3, 4)),
        ((1, 1, 3, 4), (1, 3, 4)),
    ],
)
def test_shapes_that_do_not_fit_are_named(logits_shape, boxes_shape):
    with pytest.raises(ValueError, match=r"(logits|boxes) must be"):
        select_detections(torch.zeros(logits_shape), torch.zeros(boxes_shape), torch.ones(1, 2))


@pytest.mark.parametrize("name", ["image_sizes", "original_sizes"])
@pytest.mark.parametrize("shape", [(3, 2), (1, 2), (2, 3)])
def test_sizes_of_another_number_of_images_are_named(name, shape):
    sizes = {"image_sizes": torch.ones(2, 2), "original_sizes": torch.ones(2, 2)} | {name: torch.ones(shape)}
    with pytest.raises(ValueError, match=name):
        select_detections(torch.zeros(2, 3, 4), torch.zeros(2, 3, 4), **sizes)


def test_sizes_must_not_turn_one_image_into_three():
    with pytest.raises(ValueError, match="image_sizes"):
        select_detections(torch.zeros(1, 3, 4), torch.zeros(1, 3, 4), torch.ones(3, 2))


@pytest.mark.parametrize("limit", [0, -1])
def test_a_limit_below_one_is_an_error(limit):
    with pytest.raises(ValueError, match="max_detections"):
        select_detections(torch.zeros(1, 3, 4), torch.zeros(1, 3, 4), torch.ones(1, 2), limit)
