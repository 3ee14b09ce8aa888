"""Optimal one-to-one assignment of many small problems at once, by SciPy's solver as a custom operator.

The operator is opaque to TorchScript, torch.compile and torch.export, and has a shape that depends on its
input's shape only: matching stays inside the graph. SciPy's `linear_sum_assignment` is the solver of the
published implementations (Crouse 2016, On implementing 2D rectangular assignment algorithms).
"""

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment as solve
from torch import Tensor

from sparse_rcnn.ops.guards import require_flags, require_real

__all__ = ["linear_sum_assignment"]


def linear_sum_assignment(cost: Tensor, valid: Tensor) -> Tensor:
    """Assigns each column its row such that the sum of the costs is smallest.

    All problems travel to the host in one transfer. A cost that is not finite (NaN or ±inf) never wins
    against a finite one: as many columns as possible get a finite cost first, and a column that only a
    non-finite cost is left for stays unassigned.

        linear_sum_assignment(torch.tensor([[4.0, 1.0], [2.0, 0.0]]), torch.tensor([True, True]))  # [1, 0]

    Args:
        cost: `[..., N, M]` real numbers.
        valid: `[..., M]` bool; a column that is not valid is ignored. Broadcasts to the batch
            of `cost`.

    Returns:
        `[..., M]` int64, the row of each column, no row twice; -1 where the column is not valid, or was
        left over because there are more columns than rows or no finite cost. No gradient.

    Raises:
        ValueError: if the shapes or types do not fit.
    """
    require_real("cost", cost)
    require_flags("valid", valid)
    return torch.ops.sparse_rcnn.linear_sum_assignment(cost.detach(), valid)


# It waits for the host, which no CUDA graph may contain.
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
    # One more row says which columns are valid, so that one transfer brings both.
    last_row = valid.expand(*batch_shape, num_columns)[..., None, :].to(cost.dtype)
    # Moved first: not every device has float64.
    packed = torch.cat((cost.detach(), last_row), dim=-2).cpu().to(torch.float64)
    problems = packed.reshape(batch_shape.numel(), num_rows + 1, num_columns).numpy()
    rows = np.full((len(problems), num_columns), -1, dtype=np.int64)
    for problem, packed_cost in enumerate(problems):
        columns = np.flatnonzero(packed_cost[-1])
        chosen_rows, chosen_columns = _solve_finite(packed_cost[:-1, columns])
        rows[problem, columns[chosen_columns]] = chosen_rows
    indices = torch.from_numpy(rows).reshape(*batch_shape, num_columns)
    return indices.to(cost.device, non_blocking=cost.is_cuda)  # the host has waited once: not again


@_operator.register_fake
def _(cost: Tensor, valid: Tensor) -> Tensor:
    return cost.new_empty(cost.shape[:-2] + cost.shape[-1:], dtype=torch.int64)


def _solve_finite(cost: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    finite = np.isfinite(cost)
    if not finite.all():
        if not finite.any():
            return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
        if np.abs(cost[finite]).max() > 1e150:
            cost = cost * 1e-154  # so that nothing below overflows
        # More than any exchange of finite costs can save: taken only if there is no other.
        low, high = cost[finite].min(), cost[finite].max()
        cost = np.where(finite, cost - low, (high - low + 1.0) * (min(cost.shape) + 1.0))
    rows, columns = solve(cost)
    kept = finite[rows, columns]
    return rows[kept], columns[kept]
