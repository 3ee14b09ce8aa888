import itertools
import math

import numpy as np
import pytest
import scipy.optimize
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import seeds

from sparse_rcnn.ops import linear_sum_assignment

FINITE = [0.0, 1.0, -1.0, 2.5, -7.0, 1e-9, 1e12, -1e12]
ANYTHING = [*FINITE, float("nan"), float("inf"), -float("inf")]


@st.composite
def costs(draw, values=None, max_side=5):
    """[N, M] float64, of distinct random values or of a few given ones."""
    rows, columns = draw(st.integers(1, max_side)), draw(st.integers(0, max_side))
    if values is None:
        generator = torch.Generator().manual_seed(draw(seeds()))
        return torch.randn(rows, columns, generator=generator, dtype=torch.float64)
    entries = st.lists(st.sampled_from(values), min_size=rows * columns, max_size=rows * columns)
    return torch.tensor(draw(entries), dtype=torch.float64).reshape(rows, columns)


def assign(cost, valid=None):
    return linear_sum_assignment(
        cost, torch.ones(cost.shape[-1], dtype=torch.bool) if valid is None else valid
    )


def brute_force(cost):
    """(largest number of finite pairs, their smallest sum) over all one-to-one assignments."""
    cost = np.asarray(cost)
    if cost.shape[0] < cost.shape[1]:
        cost = cost.T
    best = (0, 0.0)
    for rows in itertools.permutations(range(cost.shape[0]), cost.shape[1]):
        chosen = [cost[row, column] for column, row in enumerate(rows)]
        finite = [value for value in chosen if math.isfinite(value)]
        if (-len(finite), math.fsum(finite)) < (-best[0], best[1]):
            best = (len(finite), math.fsum(finite))
    return best


def count_and_sum(cost, rows):
    chosen = [cost[row, column].item() for column, row in enumerate(rows.tolist()) if row >= 0]
    return len(chosen), math.fsum(chosen)


def test_no_cuda_graph_takes_it_in():
    tags = torch.ops.sparse_rcnn.linear_sum_assignment.default.tags
    assert torch.Tag.cudagraph_unsafe in tags


def test_by_hand():
    # A greedy choice takes 1 and then must take 9. The best sum is 2 + 2.
    cost = torch.tensor([[1.0, 2.0], [2.0, 9.0]])
    assert assign(cost).tolist() == [1, 0]


@given(st.one_of(costs(), costs(FINITE), costs(ANYTHING)))
def test_no_row_twice_and_rows_exist(cost):
    rows = assign(cost)
    assert rows.dtype == torch.int64
    assert rows.shape == cost.shape[1:]
    matched = rows[rows >= 0].tolist()
    assert len(set(matched)) == len(matched)
    assert ((rows >= -1) & (rows < cost.shape[0])).all()


@given(st.one_of(costs(), costs(FINITE)))
def test_optimal_against_brute_force(cost):
    count, total = count_and_sum(cost, assign(cost))
    assert (count, pytest.approx(total, rel=1e-12, abs=1e-12)) == brute_force(cost)


@given(costs(ANYTHING))
@settings(max_examples=8 * settings.default.max_examples)
def test_as_many_finite_pairs_as_possible_and_of_those_the_cheapest(cost):
    rows = assign(cost)
    for column, row in enumerate(rows.tolist()):
        assert row == -1 or cost[row, column].isfinite()
    count, total = count_and_sum(cost, rows)
    assert (count, pytest.approx(total, rel=1e-9, abs=1e-6)) == brute_force(cost)


@given(seeds(), st.integers(1, 40), st.integers(1, 40))
def test_scipy_agrees(seed, num_rows, num_columns):
    cost = torch.randn(num_rows, num_columns, generator=torch.Generator().manual_seed(seed))
    expected = [-1] * num_columns
    for row, column in zip(*scipy.optimize.linear_sum_assignment(cost.numpy()), strict=True):
        expected[column] = row
    assert assign(cost).tolist() == expected


@given(costs(), seeds())
def test_permuted_rows_and_columns_are_assigned_alike(cost, seed):
    generator = torch.Generator().manual_seed(seed)
    row_order = torch.randperm(cost.shape[0], generator=generator)
    column_order = torch.randperm(cost.shape[1], generator=generator)
    rows = assign(cost[row_order][:, column_order])
    back = torch.where(rows >= 0, row_order[rows.clamp(min=0)], rows)
    assert torch.equal(back, assign(cost)[column_order])


@given(costs(), seeds(), st.sampled_from([0.0, -1e30, float("nan"), -float("inf")]))
def test_padding_anywhere_is_never_matched_and_changes_nothing(cost, seed, garbage):
    generator = torch.Generator().manual_seed(seed)
    valid = torch.rand(cost.shape[1] + 3, generator=generator).argsort() < cost.shape[1]
    padded = torch.full((cost.shape[0], cost.shape[1] + 3), garbage, dtype=torch.float64)
    padded[:, valid] = cost
    rows = assign(padded, valid)
    assert rows[~valid].tolist() == [-1] * 3
    assert torch.equal(rows[valid], assign(cost))


@given(st.lists(costs(ANYTHING, max_side=3), min_size=1, max_size=4))
def test_problems_of_a_batch_are_independent(problems):
    rows = max(cost.shape[0] for cost in problems)
    columns = max(cost.shape[1] for cost in problems)
    batch = torch.full((len(problems), rows, columns), float("nan"), dtype=torch.float64)
    valid = torch.zeros(len(problems), columns, dtype=torch.bool)
    for index, cost in enumerate(problems):
        batch[index, : cost.shape[0], : cost.shape[1]] = cost
        valid[index, : cost.shape[1]] = True
    together = linear_sum_assignment(batch, valid)
    for index, cost in enumerate(batch):
        assert torch.equal(together[index], linear_sum_assignment(cost, valid[index]))


def test_valid_broadcasts_over_leading_dimensions():
    cost = torch.randn(3, 2, 5, 4, generator=torch.Generator().manual_seed(0))
    valid = torch.tensor([[True, False, True, True], [True, True, False, False]])
    rows = linear_sum_assignment(cost, valid)
    assert rows.shape == (3, 2, 4)
    assert torch.equal(rows, linear_sum_assignment(cost, valid.expand(3, 2, 4)))
    assert torch.equal(rows >= 0, valid.expand(3, 2, 4))


@pytest.mark.parametrize("batch", [(), (1,), (6, 2)])
def test_more_columns_than_rows_leaves_the_dearest_over(batch):
    cost = torch.tensor([[3.0, 1.0, 2.0, 4.0], [4.0, 2.0, 3.0, 5.0]]).expand(*batch, 2, 4)
    rows = assign(cost)
    assert torch.equal(rows >= 0, torch.tensor([False, True, True, False]).expand(*batch, 4))


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 0), (2, 3, 0), (2, 0, 3), (0, 2, 3), (6, 2, 5, 0)])
def test_nothing_to_assign(shape):
    rows = assign(torch.zeros(shape))
    assert rows.shape == shape[:-2] + shape[-1:]
    assert rows.eq(-1).all()


def test_padding_only():
    cost = torch.zeros(2, 3, 4)
    assert linear_sum_assignment(cost, torch.zeros(2, 4, dtype=torch.bool)).eq(-1).all()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_no_finite_cost_at_all(value):
    assert assign(torch.full((3, 2), value)).tolist() == [-1, -1]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_cost_that_is_not_finite_never_wins(value):
    assert assign(torch.tensor([[value, 1e30], [1e30, value]])).tolist() == [1, 0]
    assert assign(torch.tensor([[value], [1e30], [-1.0]])).tolist() == [2]
    assert assign(torch.tensor([[value, value], [value, 5.0]])).tolist() == [-1, 1]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_costs_at_the_end_of_the_type(dtype):
    limit = torch.finfo(dtype).max
    assert assign(torch.tensor([[limit, -limit], [0.0, limit]], dtype=dtype)).tolist() == [1, 0]
    nan = float("nan")
    assert assign(torch.tensor([[limit, -limit], [0.0, nan]], dtype=dtype)).tolist() == [1, 0]
    assert assign(torch.tensor([[limit, nan], [-limit, nan]], dtype=dtype)).tolist() == [1, -1]


def test_ties_are_still_one_to_one():
    assert sorted(assign(torch.zeros(7, 5)).tolist()) == sorted(set(assign(torch.zeros(7, 5)).tolist()))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_every_floating_type(dtype):
    assert assign(torch.tensor([[1.0, 2.0], [2.0, 9.0]], dtype=dtype)).tolist() == [1, 0]


def test_inputs_are_left_as_they_are():
    cost = torch.tensor([[float("nan"), 1.0], [0.0, 2.0]])
    before = cost.clone()
    assign(cost)
    assert torch.equal(cost.nan_to_num(-5.0), before.nan_to_num(-5.0))


def test_inputs_need_not_be_contiguous():
    cost = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
    assert torch.equal(assign(cost.t()), assign(cost.t().contiguous()))


def test_a_cost_with_gradient_is_taken():
    rows = assign(torch.rand(3, 2, generator=torch.Generator().manual_seed(0), requires_grad=True))
    assert not rows.requires_grad


@pytest.mark.parametrize(
    ("cost_shape", "valid_shape"),
    [((3,), (3,)), ((3, 2), (3,)), ((5, 3, 2), (5, 3)), ((2, 3, 4), (3, 4)), ((2, 3, 4), (5, 1, 4))],
)
def test_shapes_that_do_not_fit_are_named(cost_shape, valid_shape):
    with pytest.raises(ValueError, match="cost must be"):
        linear_sum_assignment(torch.zeros(cost_shape), torch.ones(valid_shape, dtype=torch.bool))


OPCHECK_SHAPES = [((4, 3), (3,)), ((2, 4, 3), (2, 3)), ((6, 2, 3, 5), (2, 5)), ((2, 4, 0), (2, 0))]


@pytest.mark.parametrize(("cost_shape", "valid_shape"), OPCHECK_SHAPES)
def test_operator_keeps_torch_rules(cost_shape, valid_shape):
    cost = torch.randn(cost_shape, generator=torch.Generator().manual_seed(0))
    operator = torch.ops.sparse_rcnn.linear_sum_assignment.default
    torch.library.opcheck(operator, (cost, torch.ones(valid_shape, dtype=torch.bool)))


@pytest.mark.parametrize(("cost_shape", "valid_shape"), OPCHECK_SHAPES)
def test_fake_tensors_have_the_shape_of_real_ones(cost_shape, valid_shape):
    cost, valid = torch.zeros(cost_shape), torch.ones(valid_shape, dtype=torch.bool)
    real = linear_sum_assignment(cost, valid)
    meta = torch.ops.sparse_rcnn.linear_sum_assignment(cost.to("meta"), valid.to("meta"))
    assert (meta.shape, meta.dtype) == (real.shape, real.dtype)


def assign_and_gather(cost: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
    rows = torch.ops.sparse_rcnn.linear_sum_assignment(cost, valid)
    return cost.gather(-2, rows.clamp(min=0)[..., None, :]).squeeze(-2) * (rows >= 0)


@pytest.mark.parametrize("mode", ["script", "compile"])
def test_inside_of_a_graph_with_a_gradient_through_the_gathered_costs(mode):
    cost = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(0), requires_grad=True)
    valid = torch.tensor([[True, True, False], [True, True, True]])
    if mode == "script":
        function = torch.jit.script(assign_and_gather)
    else:
        torch.compiler.reset()
        function = torch.compile(assign_and_gather, fullgraph=True, backend="eager")
    expected, result = assign_and_gather(cost, valid), function(cost, valid)
    assert torch.equal(result, expected)
    for mine, theirs in zip(*(torch.autograd.grad(x.sum(), cost) for x in (result, expected)), strict=True):
        assert torch.equal(mine, theirs)
