"""Optimal one-to-one assignment of many small problems at once. SciPy's solver becomes a custom operator.

TorchScript, torch.compile and torch.export do not look inside the operator. The shape of its result depends
only on the shapes of its inputs, so matching stays inside the graph. The published implementations use the
same solver, SciPy's `linear_sum_assignment` (Crouse 2016, On implementing 2D rectangular assignment
algorithms).
"""

import numpy as np
import torch
from torch import Tensor

from sparse_rcnn.ops.argument_checks import require_flags, require_real

__all__ = ["linear_sum_assignment"]


def linear_sum_assignment(cost: Tensor, valid: Tensor) -> Tensor:
    """Assigns one row to each column, so that the sum of the costs is smallest.

    All problems go to the host in one transfer. Pairs with a finite cost come first. A pair whose cost is NaN
    or infinite is never assigned.

    Args:
        cost: `[..., N, M]` real numbers.
        valid: `[..., M]` bool. Columns that are not valid are ignored. Broadcasts to the batch of `cost`.

    Returns:
        `[..., M]` int64, the row of each column. No row comes twice. A column gets -1 if it is not valid, if
        all rows are taken, or if no finite cost is left for it. No gradient.

    Raises:
        ValueError: If the shapes or types do not fit.

    Example:
        >>> linear_sum_assignment(torch.tensor([[4.0, 1.0], [2.0, 0.0]]), torch.tensor([True, True]))
        tensor([1, 0])
    """
    require_real("cost", cost)
    require_flags("valid", valid)
    return torch.ops.sparse_rcnn.linear_sum_assignment(cost.detach(), valid)


# The operator waits for the host. A CUDA graph must not contain such a wait.
@torch.library.custom_op(
    "sparse_rcnn::linear_sum_assignment", mutates_args=(), tags=(torch.Tag.cudagraph_unsafe,)
)
def _operator(cost: Tensor, valid: Tensor) -> Tensor:
    fits = cost.dim() >= 2 and valid.shape[-1:] == cost.shape[-1:] and valid.dim() < cost.dim()
    if fits:
        batch_shape = cost.shape[:-2]
        sizes = zip(reversed(valid.shape[:-1]), reversed(batch_shape), strict=False)
        fits = all(mine in (1, theirs) for mine, theirs in sizes)
    if not fits:
        raise ValueError(f"cost must be [..., N, M] and valid [..., M], got {cost.shape} and {valid.shape}")
    batch_shape, (num_rows, num_columns) = cost.shape[:-2], cost.shape[-2:]
    # `valid` becomes one more row of the costs: one transfer moves both.
    last_row = valid.expand(*batch_shape, num_columns)[..., None, :].to(cost.dtype)
    # Move first, convert then: not every device has float64.
    packed = torch.cat((cost.detach(), last_row), dim=-2).cpu().to(torch.float64)
    problems = packed.reshape(batch_shape.numel(), num_rows + 1, num_columns).numpy()
    rows = np.full((len(problems), num_columns), -1, dtype=np.int64)
    for problem, packed_cost in enumerate(problems):
        columns = np.flatnonzero(packed_cost[-1])
        chosen_rows, chosen_columns = _solve_finite(packed_cost[:-1, columns])
        rows[problem, columns[chosen_columns]] = chosen_rows
    indices = torch.from_numpy(rows).reshape(*batch_shape, num_columns)
    return indices.to(cost.device, non_blocking=cost.is_cuda)  # the host does not wait a second time


@_operator.register_fake
def _(cost: Tensor, valid: Tensor) -> Tensor:
    return cost.new_empty(cost.shape[:-2] + cost.shape[-1:], dtype=torch.int64)


def _solve_finite(cost: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    from scipy.optimize import linear_sum_assignment as solve  # late: detection does not need it

    finite = np.isfinite(cost)
    if not finite.all():
        if not finite.any():
            return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
        if np.abs(cost[finite]).max() > 1e150:
            cost = cost * 1e-154  # the sums below must not overflow
        # Every non-finite cost becomes larger than all finite ones together: the solver avoids it if it can.
        low, high = cost[finite].min(), cost[finite].max()
        cost = np.where(finite, cost - low, (high - low + 1.0) * (min(cost.shape) + 1.0))
    rows, columns = solve(cost)
    kept = finite[rows, columns]
    return rows[kept], columns[kept]
