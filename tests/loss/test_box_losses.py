import pytest
import torch
import torchvision
from hypothesis import given
from strategies import box_pairs, box_sets, ordinary_boxes
from torch.testing import assert_close

from sparse_rcnn.loss import paired_giou_loss, paired_l1_loss


@given(box_pairs())
def test_l1_against_a_loop(pair):
    losses = paired_l1_loss(*pair)
    assert losses.shape == (len(pair[0]),)
    for loss, box, target in zip(losses.tolist(), pair[0].tolist(), pair[1].tolist(), strict=True):
        assert loss == sum(abs(mine - its) for mine, its in zip(box, target, strict=True))


@given(box_pairs(ordinary_boxes(), min_size=1))
def test_giou_torchvision_agrees(pair):
    # Its epsilon of 1e-7 px² in the denominators shifts the values of boxes of 1/64 px² by 1e-5.
    expected = torchvision.ops.generalized_box_iou_loss(*pair)
    assert_close(paired_giou_loss(*pair), expected, rtol=0, atol=2e-5)


@pytest.mark.parametrize("loss", [paired_l1_loss, paired_giou_loss])
@given(boxes=box_sets(ordinary_boxes(), min_size=1))
def test_zero_at_equality(loss, boxes):
    assert loss(boxes, boxes).eq(0).all()


@given(box_pairs())
def test_ranges(pair):
    assert (paired_l1_loss(*pair) >= 0).all()
    assert ((paired_giou_loss(*pair) >= 0) & (paired_giou_loss(*pair) <= 2)).all()


@pytest.mark.parametrize("loss", [paired_l1_loss, paired_giou_loss])
@given(pair=box_pairs(min_size=1))
def test_gradients_are_always_finite(loss, pair):
    boxes1, boxes2 = (boxes.requires_grad_() for boxes in pair)
    for gradient in torch.autograd.grad(loss(boxes1, boxes2).sum(), [boxes1, boxes2]):
        assert gradient.isfinite().all()


@pytest.mark.parametrize("loss", [paired_l1_loss, paired_giou_loss])
def test_nan_stays_nan(loss):
    boxes = torch.tensor([[0.0, 0.0, float("nan"), 1.0]])
    assert loss(boxes, torch.ones(1, 4)).isnan().all()


@pytest.mark.parametrize("loss", [paired_l1_loss, paired_giou_loss])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.int64])
def test_arithmetic_is_float32_at_least(loss, dtype):
    boxes1 = torch.tensor([[0, 0, 1000, 1000]], dtype=dtype)
    boxes2 = torch.tensor([[1, 3, 1200, 1502]], dtype=dtype)
    result = loss(boxes1, boxes2)
    assert result.dtype == torch.float32
    assert torch.equal(result, loss(boxes1.float(), boxes2.float()))
