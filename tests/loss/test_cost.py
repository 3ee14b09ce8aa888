import math

import pytest
import torch
from einops import rearrange
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import boxes_of, coordinates, image_sizes, seeds, target_sets
from torch.testing import assert_close

from sparse_rcnn.loss import LossWeights, matching_cost


@st.composite
def cases(draw):
    """Logits [B, N, K], boxes [B, N, 4], targets without padding, image sizes."""
    batch, count, classes = draw(st.integers(1, 2)), draw(st.integers(0, 4)), draw(st.integers(1, 4))
    targets = draw(target_sets(batch, classes))
    box = boxes_of(*[coordinates(-16, 64)] * 2, *[coordinates(-1, 64)] * 2)
    edges = draw(st.lists(box, min_size=batch * count, max_size=batch * count))
    boxes = torch.tensor(edges, dtype=torch.float64).reshape(batch, count, 4)
    generator = torch.Generator().manual_seed(draw(seeds()))
    logits = 4 * torch.randn(batch, count, classes, generator=generator, dtype=torch.float64)
    target_boxes = targets.boxes.nan_to_num(5.0)
    labels = targets.labels.clamp(max=classes - 1)
    return logits, boxes, target_boxes, labels, draw(image_sizes(batch))


def giou(a, b):
    def area(x1, y1, x2, y2):
        return max(x2 - x1, 0.0) * max(y2 - y1, 0.0)

    overlap = area(max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3]))
    hull = area(min(a[0], b[0]), min(a[1], b[1]), max(a[2], b[2]), max(a[3], b[3]))
    union = area(*a) + area(*b) - overlap
    return (overlap / union if union else 0.0) - ((hull - union) / hull if hull else 0.0)


def published_cost(logits, box, target_box, label, height, width, weights, alpha, gamma):
    """Of one proposal and one target."""
    p = 1 / (1 + math.exp(-logits[label]))
    positive = alpha * (1 - p) ** gamma * -math.log(p + 1e-8)
    negative = (1 - alpha) * p**gamma * -math.log(1 - p + 1e-8)
    sides = [width, height, width, height]
    l1 = sum(abs(mine / side - its / side) for mine, its, side in zip(box, target_box, sides, strict=True))
    return weights[0] * (positive - negative) + weights[1] * l1 - weights[2] * giou(box, target_box)


PARAMETERS = [((2.0, 5.0, 2.0), 0.25, 2.0), ((1.0, 0.5, 3.0), 0.5, 1.0)]


@pytest.mark.parametrize(("weights", "alpha", "gamma"), PARAMETERS)
@given(case=cases())
def test_against_a_loop(weights, alpha, gamma, case):
    cost = matching_cost(*case, LossWeights(*weights, alpha, gamma))
    logits, boxes, target_boxes, labels, sizes = (tensor.tolist() for tensor in case)
    assert cost.shape == (*case[0].shape[:2], case[3].shape[1])
    for image, (height, width) in enumerate(sizes):
        for n, proposal in enumerate(zip(logits[image], boxes[image], strict=True)):
            for m, target in enumerate(zip(target_boxes[image], labels[image], strict=True)):
                expected = published_cost(*proposal, *target, height, width, weights, alpha, gamma)
                assert cost[image, n, m].item() == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_weights_by_default():
    case = make_case(())
    assert torch.equal(
        matching_cost(*case), matching_cost(*case, LossWeights(*PARAMETERS[0][0], *PARAMETERS[0][1:]))
    )


def make_case(leading, seed=0, dtype=torch.float64):
    """Two images, 5 proposals, 3 targets, 4 classes."""
    generator = torch.Generator().manual_seed(seed)

    def boxes(*shape):
        low = torch.rand(*shape, 2, generator=generator, dtype=torch.float64) * 30
        return torch.cat((low, low + 1 + torch.rand(low.shape, generator=generator) * 30), dim=-1).to(dtype)

    logits = torch.randn(*leading, 2, 5, 4, generator=generator, dtype=torch.float64).to(dtype)
    labels = torch.randint(0, 4, (2, 3), generator=generator)
    sizes = torch.tensor([[64, 80], [70, 64]])
    return logits, boxes(*leading, 2, 5), boxes(2, 3), labels, sizes


@pytest.mark.parametrize("leading", [(1,), (3,), (2, 3)])
def test_leading_dimensions_are_independent(leading):
    logits, boxes, *rest = make_case(leading)
    cost = matching_cost(logits, boxes, *rest)
    assert cost.shape == (*leading, 2, 5, 3)
    flat = zip(logits.flatten(0, -4), boxes.flatten(0, -4), strict=True)
    expected = torch.stack([matching_cost(*stage, *rest) for stage in flat])
    assert_close(cost.flatten(0, -4), expected, rtol=0, atol=1e-12)


@given(seeds())
@settings(max_examples=10)
def test_rows_are_proposals_and_columns_targets(seed):
    generator = torch.Generator().manual_seed(seed)
    logits, boxes, target_boxes, labels, sizes = make_case((), seed)
    rows, columns = torch.randperm(5, generator=generator), torch.randperm(3, generator=generator)
    permuted = matching_cost(
        logits[:, rows], boxes[:, rows], target_boxes[:, columns], labels[:, columns], sizes
    )
    expected = matching_cost(logits, boxes, target_boxes, labels, sizes)[:, rows][:, :, columns]
    assert_close(permuted, expected, rtol=0, atol=1e-12)


def test_only_the_targets_class_counts():
    logits, boxes, target_boxes, labels, sizes = make_case(())
    onehot = torch.nn.functional.one_hot(labels, 4).sum(dim=1).bool()  # [B, K]
    others = torch.where(rearrange(onehot, "b k -> b 1 k"), logits, torch.tensor(99.0).double())
    assert not onehot.all()
    assert torch.equal(
        matching_cost(others, boxes, target_boxes, labels, sizes),
        matching_cost(logits, boxes, target_boxes, labels, sizes),
    )


def test_l1_is_relative_to_the_image():
    logits, boxes, target_boxes, labels, sizes = make_case(())
    cost = matching_cost(logits, boxes, target_boxes, labels, sizes)
    scaled = matching_cost(logits, boxes * 4, target_boxes * 4, labels, sizes * 4)
    assert_close(scaled, cost, rtol=0, atol=1e-12)


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_boxes_that_are_not_finite_have_no_finite_cost(value, which):
    case = list(make_case(()))
    case[1][0, 2, which] = value
    cost = matching_cost(*case)
    assert not cost[0, 2].isfinite().any()
    assert cost[1].isfinite().all()
    assert cost[0, [0, 1, 3, 4]].isfinite().all()


def test_extreme_logits_have_finite_costs():
    logits, *rest = make_case((), dtype=torch.float32)
    for value in (-1e30, -100.0, 100.0, 1e30):
        assert matching_cost(torch.full_like(logits, value), *rest).isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_arithmetic_is_float32_at_least(dtype):
    logits, boxes, target_boxes, labels, sizes = make_case((), dtype=dtype)
    cost = matching_cost(logits, boxes, target_boxes, labels, sizes)
    assert cost.dtype == torch.float32
    assert torch.equal(
        cost, matching_cost(logits.float(), boxes.float(), target_boxes.float(), labels, sizes)
    )
