import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import box_pairs, box_sets, boxes_of, coordinates, ordinary_boxes, seeds
from torch.testing import assert_close

from sparse_rcnn.ops import apply_deltas, get_deltas, xyxy_to_cxcywh

WEIGHTS = st.sampled_from([(2.0, 2.0, 1.0, 1.0), (10.0, 10.0, 5.0, 5.0), (1.0, 2.0, 3.0, 4.0)])
CLAMP = math.log(100000 / 16)


def test_by_hand():
    # Half a width to the right, a quarter of the height up, twice as wide, half as high.
    boxes = torch.tensor([10.0, 20.0, 14.0, 28.0], dtype=torch.float64)
    deltas = torch.tensor([1.0, -0.5, math.log(2), -math.log(2)], dtype=torch.float64)
    expected = torch.tensor([10.0, 20.0, 18.0, 24.0], dtype=torch.float64)
    assert_close(apply_deltas(deltas, boxes), expected)


@given(box_sets(), WEIGHTS)
def test_zero_deltas_change_nothing(boxes, weights):
    assert torch.equal(apply_deltas(torch.zeros_like(boxes), boxes, weights), boxes)


@given(box_pairs(ordinary_boxes()), WEIGHTS)
def test_boxes_round_trip(pair, weights):
    boxes, targets = pair
    reached = apply_deltas(get_deltas(boxes, targets, weights), boxes, weights, scale_clamp=20.0)
    assert_close(reached, targets, rtol=1e-9, atol=1e-9)


@given(box_sets(boxes_of(*[coordinates(-64, 64)] * 2, *[coordinates(1, 64)] * 2)), seeds(), WEIGHTS)
def test_deltas_round_trip(boxes, seed, weights):
    generator = torch.Generator().manual_seed(seed)
    deltas = torch.randn(boxes.shape, generator=generator, dtype=torch.float64)
    assert_close(get_deltas(boxes, apply_deltas(deltas, boxes, weights), weights), deltas, rtol=0, atol=1e-9)


@given(box_sets(ordinary_boxes(), min_size=1), st.integers(-6, 6), coordinates(), seeds())
def test_moving_and_scaling_the_box_moves_and_scales_the_result(boxes, exponent, shift, seed):
    generator = torch.Generator().manual_seed(seed)
    deltas = torch.randn(boxes.shape, generator=generator, dtype=torch.float64)
    expected = (apply_deltas(deltas, boxes) + shift) * 2.0**exponent
    assert_close(apply_deltas(deltas, (boxes + shift) * 2.0**exponent), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("weight", [1.0, 5.0])
def test_scale_is_clamped_after_the_division_and_gradient_free_beyond(weight):
    deltas = torch.tensor([0.0, 0.0, 1e4, 1e30], dtype=torch.float64, requires_grad=True)
    boxes = torch.tensor([-1.0, -2.0, 1.0, 2.0], dtype=torch.float64)
    result = apply_deltas(deltas, boxes, (1.0, 1.0, weight, weight))
    assert_close(xyxy_to_cxcywh(result)[2:], torch.tensor([2.0, 4.0], dtype=torch.float64) * 100000 / 16)
    (gradient,) = torch.autograd.grad(result.square().sum(), deltas)
    assert gradient[2:].tolist() == [0, 0]


def test_clamp_is_an_argument_and_leaves_smaller_deltas_alone():
    boxes = torch.tensor([-1.0, -1.0, 1.0, 1.0], dtype=torch.float64)
    deltas = torch.tensor([0.0, 0.0, 2.0, -50.0], dtype=torch.float64)
    size = xyxy_to_cxcywh(apply_deltas(deltas, boxes, scale_clamp=1.0))[2:]
    assert_close(size, 2 * torch.tensor([math.e, math.exp(-50.0)], dtype=torch.float64))
    size = xyxy_to_cxcywh(apply_deltas(deltas, boxes, scale_clamp=CLAMP))[2:]
    assert_close(size[0].item(), 2 * math.exp(2.0))


@pytest.mark.parametrize(
    ("deltas_shape", "boxes_shape"),
    [
        ((3, 5, 4), (4,)),
        ((4,), (3, 5, 4)),
        ((3, 1, 4), (5, 4)),
        ((6, 3, 5, 4), (1, 3, 5, 4)),
        ((2, 0, 4), (4,)),
    ],
)
def test_shapes_broadcast(deltas_shape, boxes_shape):
    generator = torch.Generator().manual_seed(0)
    deltas = torch.randn(deltas_shape, generator=generator, dtype=torch.float64)
    boxes = torch.rand(boxes_shape, generator=generator, dtype=torch.float64)
    boxes[..., 2:] += 1
    result = apply_deltas(deltas, boxes)
    full = torch.broadcast_tensors(deltas, boxes)
    assert torch.equal(result, apply_deltas(*full))
    assert_close(get_deltas(boxes, result), full[0], rtol=0, atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_arithmetic_is_float32_at_least(dtype):
    deltas, boxes = torch.tensor([0.1, -0.2, 0.3, 4.0]), torch.tensor([100.0, 200.0, 1000.0, 1200.0])
    deltas, boxes = deltas.to(dtype), boxes.to(dtype)
    moved = apply_deltas(deltas, boxes)
    assert moved.dtype == torch.float32
    assert torch.equal(moved, apply_deltas(deltas.float(), boxes.float()))
    assert get_deltas(boxes, boxes).dtype == torch.float32


@given(seeds())
@settings(max_examples=10)
def test_gradients_against_finite_differences(seed):
    generator = torch.Generator().manual_seed(seed)
    deltas = torch.randn(3, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    boxes = torch.rand(3, 4, generator=generator, dtype=torch.float64)
    boxes[:, 2:] += 1
    assert torch.autograd.gradcheck(apply_deltas, (deltas, boxes.requires_grad_()))
