import pytest
import torch
import torchvision
from einops import rearrange, repeat
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import box_pairs, box_sets, coordinates, ordinary_boxes, seeds, touching_pairs, upright_boxes
from torch.testing import assert_close

from sparse_rcnn.ops import box_area, paired_giou, paired_iou, pairwise_giou, pairwise_iou

PAIRED_AND_PAIRWISE = [(paired_iou, pairwise_iou), (paired_giou, pairwise_giou)]
ALL_FOUR = [paired_iou, paired_giou, pairwise_iou, pairwise_giou]
EPS = 1e-12


def loop_iou_and_giou(box1, box2):
    """In plain Python. A box with swapped corners is empty. The ratio of two empty areas is 0."""

    def area(x1, y1, x2, y2):
        return max(x2 - x1, 0.0) * max(y2 - y1, 0.0)

    overlap = area(*[max(box1[i], box2[i]) for i in (0, 1)], *[min(box1[i], box2[i]) for i in (2, 3)])
    hull = area(*[min(box1[i], box2[i]) for i in (0, 1)], *[max(box1[i], box2[i]) for i in (2, 3)])
    union = area(*box1) + area(*box2) - overlap
    iou = overlap / union if union > 0 else 0.0
    return iou, iou - ((hull - union) / hull if hull > 0 else 0.0)


def boxes_away_from_ties(seed):
    """Three pairs of boxes in which no two edges coincide and some pairs overlap, both [3, 4] float64."""
    generator = torch.Generator().manual_seed(seed)
    pairs = torch.empty(3, 2, 4, dtype=torch.float64)
    for pair in pairs:
        for axis in (0, 1):
            edges = torch.randperm(8, generator=generator)[:4] + 0.3 * torch.rand(4, generator=generator)
            pair[:, axis::2] = edges.double().reshape(2, 2).sort(dim=1).values
    return pairs[:, 0].clone(), pairs[:, 1].clone()


def test_by_hand():
    first, second = torch.tensor([0.0, 0.0, 2.0, 2.0]), torch.tensor([1.0, 1.0, 3.0, 3.0])
    assert_close(paired_iou(first, second), torch.tensor(1 / 7))
    assert_close(paired_giou(first, second), torch.tensor(1 / 7 - 2 / 9))


@given(box_sets(), box_sets())
def test_pairwise_against_a_loop(boxes1, boxes2):
    iou, giou = pairwise_iou(boxes1, boxes2), pairwise_giou(boxes1, boxes2)
    assert iou.shape == giou.shape == (len(boxes1), len(boxes2))
    for i, box1 in enumerate(boxes1.tolist()):
        for j, box2 in enumerate(boxes2.tolist()):
            expected = loop_iou_and_giou(box1, box2)
            assert (iou[i, j].item(), giou[i, j].item()) == pytest.approx(expected, abs=EPS)


@pytest.mark.parametrize(("paired", "pairwise"), PAIRED_AND_PAIRWISE)
@given(boxes1=box_sets(), boxes2=box_sets())
def test_pairwise_is_paired_over_the_product_of_the_sets(paired, pairwise, boxes1, boxes2):
    n, m = len(boxes1), len(boxes2)
    every = paired(repeat(boxes1, "n c -> (n m) c", m=m), repeat(boxes2, "m c -> (n m) c", n=n))
    assert torch.equal(pairwise(boxes1, boxes2), rearrange(every, "(n m) -> n m", n=n, m=m))


@pytest.mark.parametrize(("paired", "pairwise"), PAIRED_AND_PAIRWISE)
@given(box_pairs(min_size=6, max_size=6))
def test_leading_dimensions_are_a_batch(paired, pairwise, pair):
    boxes1, boxes2 = (rearrange(boxes, "(b n) c -> b n c", b=2) for boxes in pair)
    batched = pairwise(boxes1, boxes2)
    assert torch.equal(batched, torch.stack([pairwise(*image) for image in zip(boxes1, boxes2, strict=True)]))
    assert torch.equal(batched.diagonal(dim1=1, dim2=2), paired(boxes1, boxes2))


@pytest.mark.parametrize(
    ("pairwise", "reference"),
    [
        (pairwise_iou, torchvision.ops.box_iou),
        (pairwise_giou, torchvision.ops.generalized_box_iou),
    ],
)
@given(boxes1=box_sets(upright_boxes()), boxes2=box_sets(upright_boxes()))
def test_torchvision_agrees_where_it_is_finite(pairwise, reference, boxes1, boxes2):
    expected, result = reference(boxes1, boxes2), pairwise(boxes1, boxes2)
    finite = expected.isfinite()
    assert_close(result[finite], expected[finite], rtol=EPS, atol=EPS)
    # torchvision has no number for pairs of empty boxes at nearly the same place.
    empty = (box_area(boxes1)[:, None] == 0) & (box_area(boxes2) == 0)
    assert (finite | empty).all()


@given(box_pairs())
def test_ranges(pair):
    iou, giou = paired_iou(*pair), paired_giou(*pair)
    assert (iou >= 0).all()
    assert (iou <= 1).all()
    assert (giou >= -1).all()
    assert (giou <= iou + EPS).all()


@pytest.mark.parametrize("function", [paired_iou, paired_giou])
@given(box_pairs())
def test_symmetry(function, pair):
    assert torch.equal(function(*pair), function(*reversed(pair)))


@pytest.mark.parametrize("function", [paired_iou, paired_giou])
@given(box_pairs(), coordinates(), coordinates(), st.integers(-6, 6))
def test_translation_and_scale_change_nothing(function, pair, dx, dy, exponent):
    shift = torch.tensor([dx, dy, dx, dy], dtype=torch.float64)
    moved = [(boxes + shift) * 2.0**exponent for boxes in pair]
    assert torch.equal(function(*moved), function(*pair))


@pytest.mark.parametrize("function", [paired_iou, paired_giou])
@given(box_pairs())
def test_mirrored_and_transposed_boxes_overlap_alike(function, pair):
    mirrored = [torch.stack((-x2, y1, -x1, y2), -1) for x1, y1, x2, y2 in (b.unbind(-1) for b in pair)]
    transposed = [boxes[:, [1, 0, 3, 2]] for boxes in pair]
    assert_close(function(*mirrored), function(*pair), rtol=EPS, atol=EPS)
    assert_close(function(*transposed), function(*pair), rtol=EPS, atol=EPS)


@given(box_sets(ordinary_boxes(), min_size=1))
def test_a_box_overlaps_itself_entirely(boxes):
    assert paired_iou(boxes, boxes).eq(1).all()
    assert paired_giou(boxes, boxes).eq(1).all()


@given(touching_pairs())
def test_touching_boxes_share_no_area(pair):
    assert paired_iou(*pair) == 0
    assert -1 < paired_giou(*pair) <= 0


def test_giou_of_boxes_side_by_side_is_zero():
    assert paired_giou(torch.tensor([0.0, 0.0, 2.0, 3.0]), torch.tensor([2.0, 0.0, 7.0, 3.0])) == 0


def test_giou_falls_to_minus_one_with_distance():
    boxes = torch.tensor([0.0, 0.0, 1.0, 1.0])
    distances = torch.tensor([1.0, 10.0, 100.0, 1e6], dtype=torch.float64)
    giou = paired_giou(boxes.double(), boxes + distances[:, None])
    assert (giou.diff() < 0).all()
    assert_close(giou[-1].item(), -1.0, rtol=0, atol=1e-11)


@given(box_pairs(min_size=1))
def test_values_and_gradients_are_always_finite(pair):
    boxes1, boxes2 = (boxes.requires_grad_() for boxes in pair)
    for function in ALL_FOUR:
        value = function(boxes1, boxes2)
        gradients = torch.autograd.grad(value.sum(), [boxes1, boxes2])
        for tensor in (value, *gradients):
            assert tensor.isfinite().all()


def test_gradients_of_vanishing_boxes_are_no_nan():
    # Their areas are below the smallest normal float32, and the inverse of an area is beyond the largest.
    boxes = torch.tensor([[0.0, 0.0, 1e-20, 1e-20], [0.0, 0.0, 1e-22, 1e-19]], requires_grad=True)
    value = paired_giou(boxes, boxes.detach())
    (gradient,) = torch.autograd.grad(value.sum(), boxes)
    assert not value.isnan().any()
    assert not gradient.isnan().any()


@pytest.mark.parametrize("function", ALL_FOUR)
@pytest.mark.parametrize("coordinate", range(4))
def test_nan_in_nan_out(function, coordinate):
    good = torch.tensor([[0.0, 0.0, 2.0, 2.0]])
    bad = good.clone()
    bad[0, coordinate] = float("nan")
    assert function(good, bad).isnan().all()
    assert function(bad, good).isnan().all()


@pytest.mark.parametrize("function", ALL_FOUR)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.int32, torch.int64])
def test_arithmetic_is_float32_at_least(function, dtype):
    boxes1 = torch.tensor([[0, 0, 1000, 1000]], dtype=dtype)
    boxes2 = torch.tensor([[500, 500, 1500, 1502]], dtype=dtype)
    result = function(boxes1, boxes2)
    assert result.dtype == torch.float32
    assert torch.equal(result, function(boxes1.float(), boxes2.float()))


@pytest.mark.parametrize("function", ALL_FOUR)
def test_float64_stays_float64(function):
    assert function(*boxes_away_from_ties(0)).dtype == torch.float64


@pytest.mark.parametrize("function", ALL_FOUR)
@given(seed=seeds())
@settings(max_examples=10)
def test_gradients_against_finite_differences(function, seed):
    boxes1, boxes2 = (boxes.requires_grad_() for boxes in boxes_away_from_ties(seed))
    assert torch.autograd.gradcheck(function, (boxes1, boxes2))


HUGE = [
    [0.0, 0, 1e20, 1e20],
    [0, 0, 2e20, 1e20],
    [5e29, 0, 6e29, 1e-3],
    [-1e38, -1e38, 1e38, 1e38],
    [1, 2, 3, 4],
]


@pytest.mark.parametrize("function", [pairwise_iou, pairwise_giou])
def test_sides_whose_areas_overflow(function):
    """Areas above 3.4e38 are infinite in float32; float64 has room for them."""
    boxes = torch.tensor(HUGE, requires_grad=True)
    found = function(boxes, boxes)
    torch.testing.assert_close(found, function(boxes.double(), boxes.double()).float(), rtol=1e-5, atol=1e-6)
    assert torch.autograd.grad(found.sum(), boxes)[0].isfinite().all()
    wide = torch.tensor([[0.0, 0, 1e200, 1e200], [0, 0, 1e200, 2e200]], dtype=torch.float64)
    assert function(wide, wide).flatten().tolist() == pytest.approx([1.0, 0.5, 0.5, 1.0])


def test_a_side_that_overflows_has_no_area_without_the_other():
    assert box_area(torch.tensor([[-3e38, 5.0, 3e38, 5.0]])).tolist() == [0]
