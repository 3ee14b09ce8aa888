import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies import any_boxes, box_sets, coordinates, image_sizes, swapped_boxes
from torch.testing import assert_close

from sparse_rcnn.ops import box_area, clip_boxes, cxcywh_to_xyxy, rescale_boxes, whwh, xyxy_to_cxcywh


def test_center_and_size_by_hand():
    boxes = torch.tensor([[10.0, 20.0, 14.0, 30.0]])
    assert xyxy_to_cxcywh(boxes).tolist() == [[12.0, 25.0, 4.0, 10.0]]


@given(box_sets())
def test_formats_round_trip(boxes):
    assert torch.equal(cxcywh_to_xyxy(xyxy_to_cxcywh(boxes)), boxes)
    assert torch.equal(xyxy_to_cxcywh(cxcywh_to_xyxy(boxes)), boxes)


def test_formats_of_integer_boxes_keep_halves():
    boxes = torch.tensor([[1, 2, 4, 7]])
    assert xyxy_to_cxcywh(boxes).tolist() == [[2.5, 4.5, 3.0, 5.0]]
    assert cxcywh_to_xyxy(torch.tensor([[2, 4, 3, 5]])).tolist() == [[0.5, 1.5, 3.5, 6.5]]


@given(box_sets())
def test_area_is_width_times_height_and_never_negative(boxes):
    expected = [max(x2 - x1, 0.0) * max(y2 - y1, 0.0) for x1, y1, x2, y2 in boxes.tolist()]
    assert box_area(boxes).tolist() == expected


@given(box_sets(swapped_boxes(), min_size=1))
def test_area_of_swapped_corners_is_zero(boxes):
    assert box_area(boxes).eq(0).all()


@given(box_sets(), coordinates(), st.integers(-4, 4))
def test_area_ignores_translation_and_grows_with_the_square_of_the_scale(boxes, shift, exponent):
    assert torch.equal(box_area(boxes + shift), box_area(boxes))
    assert torch.equal(box_area(boxes * 2.0**exponent), box_area(boxes) * 4.0**exponent)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.int32, torch.int64])
def test_area_is_computed_in_float32_at_least(dtype):
    # 300² is beyond float16 and not a bfloat16.
    area = box_area(torch.tensor([[0, 0, 300, 300]], dtype=dtype))
    assert area.dtype == torch.float32
    assert area.item() == torch.tensor(300).to(dtype).float().item() ** 2


def test_whwh_by_hand():
    scale = whwh(torch.tensor([[480, 640], [3, 5]]))
    assert scale.dtype == torch.float32
    assert scale.tolist() == [[640, 480, 640, 480], [5, 3, 5, 3]]


@st.composite
def batches_of_boxes(draw):
    batch, count = draw(st.integers(0, 3)), draw(st.integers(0, 4))
    boxes = draw(box_sets(any_boxes(), batch * count, batch * count)).reshape(batch, count, 4)
    return boxes, draw(image_sizes(batch)), draw(image_sizes(batch))


@given(batches_of_boxes())
def test_clipping_against_a_loop(batch):
    boxes, sizes, _ = batch
    clipped = clip_boxes(boxes, sizes)
    assert clipped.shape == boxes.shape
    for image, (height, width) in enumerate(sizes.tolist()):
        for box, (x1, y1, x2, y2) in zip(clipped[image].tolist(), boxes[image].tolist(), strict=True):
            inside = [min(max(x1, 0), width), min(max(y1, 0), height)]
            inside += [min(max(x2, 0), width), min(max(y2, 0), height)]
            assert box == inside


@given(batches_of_boxes())
def test_clipping_twice_is_clipping_once(batch):
    boxes, sizes, _ = batch
    clipped = clip_boxes(boxes, sizes)
    assert torch.equal(clip_boxes(clipped, sizes), clipped)


def test_clipping_keeps_nan_visible():
    clipped = clip_boxes(torch.tensor([[[float("nan"), -1.0, 5.0, 99.0]]]), torch.tensor([[10, 20]]))
    assert clipped[0, 0, 0].isnan()
    assert clipped[0, 0, 1:].tolist() == [0, 5, 10]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.int64])
def test_clipped_boxes_are_inside_in_every_type(dtype):
    # 1333 is no bfloat16: rounding the limit instead of the box would leave boxes 3 px outside.
    clipped = clip_boxes(torch.tensor([[[-5, -5, 2000, 2000]]]).to(dtype), torch.tensor([[800, 1333]]))
    assert (clipped.float() <= torch.tensor([1333.0, 800.0, 1333.0, 800.0])).all()
    assert (clipped >= 0).all()


def test_rescaling_by_hand():
    boxes = torch.tensor([[[10.0, 20.0, 30.0, 40.0]], [[1.0, 2.0, 3.0, 4.0]]])
    from_sizes, to_sizes = torch.tensor([[100, 200], [10, 10]]), torch.tensor([[50, 600], [10, 5]])
    expected = [[[30.0, 10.0, 90.0, 20.0]], [[0.5, 2.0, 1.5, 4.0]]]
    assert rescale_boxes(boxes, from_sizes, to_sizes).tolist() == expected


@given(batches_of_boxes())
def test_rescaling_round_trip(batch):
    boxes, from_sizes, to_sizes = batch
    back = rescale_boxes(rescale_boxes(boxes, from_sizes, to_sizes), to_sizes, from_sizes)
    assert_close(back, boxes, rtol=1e-12, atol=1e-9)


@given(batches_of_boxes())
def test_rescaling_is_as_precise_as_the_boxes(batch):
    boxes, from_sizes, to_sizes = batch
    expected = boxes * (to_sizes.flip(-1).double() / from_sizes.flip(-1).double()).repeat(1, 2)[:, None]
    assert_close(rescale_boxes(boxes, from_sizes, to_sizes), expected, rtol=1e-12, atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.int64, torch.float16, torch.bfloat16])
def test_rescaling_is_computed_in_float32_at_least(dtype):
    boxes = torch.tensor([[[10, 10, 21, 30]]], dtype=dtype)
    rescaled = rescale_boxes(boxes, torch.tensor([[3, 3]]), torch.tensor([[2, 2]]))
    assert_close(rescaled, boxes.float() * 2 / 3)


@given(batches_of_boxes())
def test_clipped_boxes_stay_clipped_when_rescaled(batch):
    boxes, from_sizes, to_sizes = batch
    rescaled = rescale_boxes(clip_boxes(boxes, from_sizes), from_sizes, to_sizes)
    assert (rescaled >= 0).all()
    assert (rescaled <= whwh(to_sizes).double()[:, None] * (1 + 1e-12)).all()
