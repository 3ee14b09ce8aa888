import math

import pytest
import torch
import torch.nn.functional as F
from einops import rearrange
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import seeds
from torch.testing import assert_close
from torchvision.ops import roi_align

import sparse_rcnn.ops.roi_align as roi_align_file
from sparse_rcnn.ops import assign_levels, flatten_pyramid, pyramid_roi_align

SIZE = (203, 149)  # px; odd at every level


def make_features(num_levels, seed=0, batch=2, channels=3, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    height, width = SIZE
    return [
        torch.randn(
            *(batch, channels, math.ceil(height / 2**level), math.ceil(width / 2**level)),
            generator=generator,
            dtype=dtype,
        )
        for level in range(2, 2 + num_levels)
    ]


def make_boxes(seed=0, batch=2, dtype=torch.float64, huge=1e6):
    """Inside, across, outside, degenerate, tiny, huge and swapped ones, one for each level, [B, 19, 4]."""
    generator = torch.Generator().manual_seed(seed)

    def rand(low, high, *shape):
        return low + (high - low) * torch.rand(batch, *shape, generator=generator, dtype=torch.float64)

    def boxes(centers, sizes):
        return torch.cat((centers - sizes / 2, centers + sizes / 2), dim=-1)

    inside = boxes(rand(50, 100, 3, 2), rand(5, 100, 3, 2))
    across = boxes(rand(-50, 250, 4, 2), rand(0, 7, 4, 2).exp())
    outside = boxes(rand(-400, -200, 1, 2), rand(1, 100, 1, 2))
    line = boxes(rand(0, 100, 1, 2), torch.cat((torch.zeros(batch, 1, 1), rand(0, 90, 1, 1)), dim=-1))
    point = boxes(rand(0, 100, 1, 2), torch.zeros(batch, 1, 2))
    tiny = boxes(rand(0, 100, 1, 2), rand(1e-6, 1e-3, 1, 2))
    large = boxes(rand(0, 100, 1, 2), rand(huge / 2, huge, 1, 2))
    swapped = boxes(rand(0, 100, 1, 2), -rand(1, 100, 1, 2))
    half_swapped = boxes(rand(0, 100, 1, 2), torch.tensor([-1.0, 1.0]) * rand(1, 100, 1, 2))
    every_level = boxes(rand(0, 150, 5, 2), 80.0 * 2 ** torch.arange(5)[:, None] * rand(0.9, 1.1, 5, 2))
    kinds = [inside, across, outside, line, point, tiny, large, swapped, half_swapped, every_level]
    return torch.cat(kinds, dim=1).to(dtype)


def published_level(box, num_levels):
    """floor(4 + log2(sqrt(area) / 224 + 1e-8)), limited to existing levels. 0 is the finest."""
    x1, y1, x2, y2 = box
    level = math.floor(4 + math.log2(math.sqrt(max((x2 - x1) * (y2 - y1), 0.0)) / 224 + 1e-8))
    return min(max(level, 2), num_levels + 1) - 2


def loop_over_levels(features, boxes, pool_size, sampling_ratio):
    batch, count = boxes.shape[:2]
    levels = torch.tensor([published_level(box, len(features)) for box in boxes.flatten(0, 1).tolist()])
    levels = levels.reshape(batch, count)
    result = features[0].new_zeros(batch, count, features[0].shape[1], pool_size, pool_size)
    for level, feature in enumerate(features):
        here = levels == level
        chosen = [boxes[image][here[image]] for image in range(batch)]
        # One index_put a level: images one after the other, as roi_align returns them.
        pooled = roi_align(feature, chosen, pool_size, 1 / 2 ** (level + 2), sampling_ratio, aligned=True)
        result = result.index_put((here,), pooled)
    return rearrange(result, "b n c h w -> b n (h w) c")


@pytest.fixture(params=["embedding_bag", "gather"])
def path(request, monkeypatch):
    """Both ways of reducing: the one of eager mode, and the one of ONNX and of graphs compiled for a GPU."""
    if request.param == "gather":
        monkeypatch.setattr(roi_align_file, "_must_gather", lambda table: True)
        monkeypatch.delattr(F, "embedding_bag")  # is not taken


def test_the_boxes_of_these_tests_reach_every_level():
    levels = torch.cat([assign_levels(make_boxes(seed), 5).flatten() for seed in range(3)])
    assert set(levels.tolist()) == {0, 1, 2, 3, 4}


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("sampling_ratio", [1, 2, 3])
@pytest.mark.parametrize("pool_size", [1, 3, 7])
def test_torchvision_agrees(pool_size, sampling_ratio):
    features, boxes = make_features(4), make_boxes()
    expected = loop_over_levels(features, boxes, pool_size, sampling_ratio)
    result = pyramid_roi_align(flatten_pyramid(features), boxes, pool_size, sampling_ratio)
    assert_close(result, expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("num_levels", [1, 2, 3, 4, 5])
def test_torchvision_agrees_with_any_number_of_levels(num_levels):
    features, boxes = make_features(num_levels), make_boxes(1)
    expected = loop_over_levels(features, boxes, 7, 2)
    assert_close(pyramid_roi_align(flatten_pyramid(features), boxes), expected, rtol=0, atol=1e-9)


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("seed", range(4))
def test_torchvision_agrees_in_float32(seed):
    # Not huge: at 1e6 px float32 has no room left for where between two cells a sample lies.
    features = make_features(4, seed, dtype=torch.float32)
    boxes = make_boxes(seed, dtype=torch.float32, huge=3e3)
    result = pyramid_roi_align(flatten_pyramid(features), boxes)
    assert result.dtype == torch.float32
    assert_close(result, loop_over_levels(features, boxes, 7, 2), rtol=0, atol=1e-4)


@given(seeds(), st.integers(1, 3), st.integers(1, 4), st.integers(1, 4))
@settings(max_examples=25)
def test_torchvision_agrees_on_random_boxes(seed, batch, pool_size, sampling_ratio):
    features, boxes = make_features(4, seed, batch), make_boxes(seed, batch)
    expected = loop_over_levels(features, boxes, pool_size, sampling_ratio)
    result = pyramid_roi_align(flatten_pyramid(features), boxes, pool_size, sampling_ratio)
    assert_close(result, expected, rtol=0, atol=1e-9)


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize(("pool_size", "sampling_ratio"), [(1, 1), (3, 3), (7, 2)])
def test_torchvision_agrees_on_the_gradient_of_the_features(pool_size, sampling_ratio):
    features, boxes = make_features(4), make_boxes()
    features = [level.requires_grad_() for level in features]
    expected = loop_over_levels(features, boxes, pool_size, sampling_ratio)
    result = pyramid_roi_align(flatten_pyramid(features), boxes, pool_size, sampling_ratio)
    upstream = torch.randn(result.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    expected_gradients = torch.autograd.grad(expected, features, upstream)
    gradients = torch.autograd.grad(result, features, upstream)
    for gradient, expected_gradient in zip(gradients, expected_gradients, strict=True):
        assert expected_gradient.abs().max() > 0
        assert_close(gradient, expected_gradient, rtol=0, atol=1e-9)


@pytest.mark.usefixtures("path")
def test_no_gradient_reaches_the_boxes():
    features, boxes = make_features(2), make_boxes().requires_grad_()
    features[0].requires_grad_()
    result = pyramid_roi_align(flatten_pyramid(features), boxes)
    assert torch.autograd.grad(result.sum(), boxes, allow_unused=True) == (None,)


def test_a_constant_map_pools_to_its_constant():
    features = [torch.full_like(level, 3.5) for level in make_features(4)]
    boxes = torch.tensor([[[20.0, 30.0, 110.0, 150.0], [1.0, 1.0, 140.0, 200.0]]] * 2, dtype=torch.float64)
    assert_close(pyramid_roi_align(flatten_pyramid(features), boxes), torch.full((2, 2, 49, 3), 3.5).double())


def test_a_ramp_pools_to_the_centers_of_the_bins():
    # Cell x covers pixels 4x to 4x+4, its center is 4x+2: a map of centers reads as the position itself.
    ramp = (4 * torch.arange(40, dtype=torch.float64) + 2).expand(1, 1, 40, 40)
    boxes = torch.tensor([[[10.0, 20.0, 80.0, 90.0]]], dtype=torch.float64)
    pooled = rearrange(
        pyramid_roi_align(flatten_pyramid([ramp]), boxes, pool_size=7), "1 1 (h w) 1 -> h w", h=7
    )
    assert_close(pooled, torch.arange(15.0, 80.0, 10.0, dtype=torch.float64).expand(7, 7))


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("num_levels", [1, 4])
def test_no_boxes_no_features(num_levels):
    features = make_features(num_levels)
    result = pyramid_roi_align(flatten_pyramid(features), torch.zeros(2, 0, 4))
    assert result.shape == (2, 0, 49, 3)


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("coordinate", range(4))
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_box_that_is_not_finite_shows_and_leaves_the_others_alone(value, coordinate):
    features, boxes = make_features(4), make_boxes()
    good = pyramid_roi_align(flatten_pyramid(features), boxes)
    boxes[0, 1, coordinate] = value
    result = pyramid_roi_align(flatten_pyramid(features), boxes)
    assert not result[0, 1].isfinite().any()
    others = torch.ones(boxes.shape[:2], dtype=torch.bool)
    others[0, 1] = False
    assert torch.equal(result[others], good[others])


@pytest.mark.usefixtures("path")
def test_boxes_at_the_end_of_float32_do_not_crash():
    features, limit = make_features(4, dtype=torch.float32), torch.finfo(torch.float32).max
    boxes = torch.tensor([[[-limit, -limit, limit, limit], [limit, limit, limit, limit]]] * 2)
    assert pyramid_roi_align(flatten_pyramid(features), boxes).shape == (2, 2, 49, 3)


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_features_keep_their_type_and_full_precision_boxes(dtype):
    features, boxes = make_features(4, dtype=torch.float32), make_boxes(dtype=torch.float32, huge=3e3)
    expected = pyramid_roi_align(flatten_pyramid(features), boxes)
    result = pyramid_roi_align(flatten_pyramid([level.to(dtype) for level in features]), boxes)
    assert result.dtype == dtype
    # With boxes in half precision, samples would move by whole cells, and values by about 1.
    assert_close(result.float(), expected, rtol=0, atol=0.05)


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_gradients_of_many_boxes_are_not_summed_in_half_precision(dtype):
    """All boxes are the image, as before training, and their gradients have a mean: nothing cancels."""
    boxes = torch.tensor([0.0, 0.0, SIZE[1], SIZE[0]]).expand(2, 300, 4)
    gradients = torch.rand(2, 300, 49, 3, generator=torch.Generator().manual_seed(0)).to(dtype)
    found = []
    for exact in (False, True):
        level = make_features(4, dtype=torch.float32)[3].to(dtype)
        level = (level.double() if exact else level).requires_grad_()
        pooled = pyramid_roi_align(flatten_pyramid([level]), boxes)
        assert pooled.dtype == (torch.float64 if exact else torch.float32)
        pooled.backward(gradients.to(pooled.dtype))
        found.append(level.grad.double())
    assert ((found[0] - found[1]).norm() / found[1].norm()).item() < 0.004  # of one rounding


def test_channels_last_features_change_nothing():
    features, boxes = make_features(4), make_boxes()
    last = [level.to(memory_format=torch.channels_last) for level in features]
    expected = pyramid_roi_align(flatten_pyramid(features), boxes)
    assert torch.equal(pyramid_roi_align(flatten_pyramid(last), boxes), expected)


def test_images_do_not_see_each_other():
    features, boxes = make_features(4), make_boxes()
    both = pyramid_roi_align(flatten_pyramid(features), boxes)
    for image in range(2):
        alone = flatten_pyramid([level[image : image + 1] for level in features])
        assert_close(pyramid_roi_align(alone, boxes[image : image + 1])[0], both[image], rtol=0, atol=1e-12)


@given(seeds())
@settings(max_examples=10)
def test_order_of_the_boxes_is_kept(seed):
    pyramid, boxes = flatten_pyramid(make_features(4)), make_boxes(seed)
    order = torch.randperm(boxes.shape[1], generator=torch.Generator().manual_seed(seed))
    assert torch.equal(
        pyramid_roi_align(pyramid, boxes[:, order]), pyramid_roi_align(pyramid, boxes)[:, order]
    )


def test_the_pyramid_lists_every_cell_level_by_level_row_by_row():
    features = make_features(3)
    table, geometry = flatten_pyramid(features)
    start = 0
    for index, level in enumerate(features):
        rows = rearrange(level, "b c h w -> b (h w) c")
        assert torch.equal(table[:, start : start + rows.shape[1]], rows)
        for image in range(2):
            first_row = image * table.shape[1] + start
            assert geometry[image, index].tolist() == [*level.shape[:1:-1], first_row, 4 * 2**index]
        start += rows.shape[1]
    assert start == table.shape[1]


@pytest.mark.parametrize("shape", [(2, 4), (2, 5, 3), (2, 5, 5), (3, 5, 4), (1, 5, 4), (2, 1, 5, 4), (4,)])
def test_boxes_of_a_wrong_shape_are_named(shape):
    with pytest.raises(ValueError, match=r"boxes must be \[(2, N|\.\.\.), 4\]"):
        pyramid_roi_align(flatten_pyramid(make_features(2)), torch.zeros(shape))


@pytest.mark.parametrize("shape", [(2, 4, 5, 5), (1, 3, 5, 5), (3, 5, 5), (2, 3, 5)])
def test_levels_that_do_not_fit_are_named(shape):
    with pytest.raises(ValueError, match="every level"):
        flatten_pyramid([torch.zeros(2, 3, 10, 10), torch.zeros(shape)])


def test_a_pyramid_without_levels_is_an_error():
    with pytest.raises(ValueError, match="at least one level"):
        flatten_pyramid([])


@pytest.mark.parametrize("sizes", [{"pool_size": 0}, {"sampling_ratio": 0}, {"sampling_ratio": -1}])
def test_sizes_below_one_are_an_error(sizes):
    # torchvision reads a ratio below 1 as "adaptive", which no static graph can do.
    with pytest.raises(ValueError, match=next(iter(sizes))):
        pyramid_roi_align(flatten_pyramid(make_features(2)), make_boxes(), **sizes)


@given(seeds(), st.integers(1, 6))
def test_levels_against_the_published_formula(seed, num_levels):
    boxes = make_boxes(seed)
    expected = [[published_level(box, num_levels) for box in image] for image in boxes.tolist()]
    levels = assign_levels(boxes, num_levels)
    assert levels.dtype == torch.int64
    assert levels.tolist() == expected


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("side", "level"),
    [(0, 0), (1, 0), (111.9, 0), (112, 1), (223.9, 1), (224, 2), (447.9, 2), (448, 3), (895.9, 3), (1e7, 3)],
)
def test_levels_at_the_limits(side, level, dtype):
    boxes = torch.tensor([[0, 0, side, side], [0, 0, side / 2, side * 2], [0, 0, side * 4, side / 4]])
    assert assign_levels(boxes.to(dtype), 4).tolist() == [level] * 3


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_levels_of_boxes_that_are_not_finite_exist(dtype):
    values = torch.tensor([float("nan"), float("inf"), -float("inf"), 1e30, 0.0], dtype=dtype)
    levels = assign_levels(torch.cartesian_prod(values, values, values, values), 4)
    assert ((levels >= 0) & (levels <= 3)).all()


def test_canonical_size_moves_the_limits():
    boxes = torch.tensor([[0.0, 0.0, 111.0, 111.0], [0.0, 0.0, 112.0, 112.0]])
    assert assign_levels(boxes, 4, canonical_size=112.0).tolist() == [1, 2]
    assert assign_levels(boxes, 4, canonical_level=5.0).tolist() == [1, 2]
