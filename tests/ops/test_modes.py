"""Every public function of ops and loss, the same in all modes: eager, script, compile and export."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from sparse_rcnn import loss, ops

# Types of results, and the one function that is no tensor's.
NO_FUNCTIONS_OF_TENSORS = {"Detections", "Pyramid", "SetLoss", "shortest_side_resize"}
B, N, M, K, L, C, D, P = 2, 5, 3, 4, 2, 4, 3, 3


class Inputs:
    """Tensors of one floating-point type; ``count`` boxes or proposals, ``targets`` targets per image."""

    def __init__(self, dtype, count=N, targets=M):
        self.generator = torch.Generator().manual_seed(0)
        self.dtype, self.count, self.targets = dtype, count, targets
        self.sizes = torch.tensor([[40, 60], [64, 50]])
        self.originals = torch.tensor([[20, 30], [100, 71]])
        self.labels = torch.randint(0, K, (B, targets), generator=self.generator)
        self.valid = torch.arange(targets) < torch.tensor([[2], [3]])
        self.num_targets = torch.tensor(5.0)

    def randn(self, *shape) -> Tensor:
        return torch.randn(*shape, generator=self.generator, dtype=torch.float64).to(self.dtype)

    def boxes(self, *shape) -> Tensor:
        corners = 20 + 10 * torch.rand(*shape, 4, generator=self.generator, dtype=torch.float64)
        return (corners + torch.tensor([-20.0, -20.0, 20.0, 20.0])).to(self.dtype)

    def pyramid(self) -> list[Tensor]:
        return [self.randn(B, C, 16 // 2**level, 15 // 2**level + 1) for level in range(4)]

    def interaction(self) -> list[Tensor]:
        shapes = [(2 * C * D, C), (2 * C * D,), (D,), (D,), (C,), (C,), (C, P * P * C), (C,), (C,), (C,)]
        features = [self.randn(B, self.count, C), self.randn(B, self.count, P * P, C)]
        return features + [self.randn(*shape) for shape in shapes]

    def predictions(self, *leading) -> list[Tensor]:
        return [
            self.randn(*leading, B, self.count, K),
            self.boxes(*leading, B, self.count),
            self.boxes(B, self.targets),
            self.labels,
        ]


def assign(cost: Tensor, valid: Tensor) -> Tensor:
    """How the operator is called from inside of a graph."""
    return torch.ops.sparse_rcnn.linear_sum_assignment(cost, valid)


def pool(features: list[Tensor], boxes: Tensor, pool_size: int, sampling_ratio: int) -> Tensor:
    """The two halves together: a pyramid is no input of an exported graph."""
    return ops.pyramid_roi_align(ops.flatten_pyramid(features), boxes, pool_size, sampling_ratio)


TABLE: dict[str, tuple[Callable, Callable[[Inputs], tuple]]] = {
    # ops
    "apply_deltas": (ops.apply_deltas, lambda x: (x.randn(B, x.count, 4), x.boxes(B, x.count))),
    "assign_levels": (ops.assign_levels, lambda x: (x.boxes(B, x.count) * 10, 4)),
    "box_area": (ops.box_area, lambda x: (x.boxes(B, x.count),)),
    "clip_boxes": (ops.clip_boxes, lambda x: (x.boxes(B, x.count) * 2, x.sizes)),
    "cxcywh_to_xyxy": (ops.cxcywh_to_xyxy, lambda x: (x.boxes(B, x.count),)),
    "dynamic_interaction": (ops.dynamic_interaction, lambda x: tuple(x.interaction())),
    "flatten_pyramid": (ops.flatten_pyramid, lambda x: (x.pyramid(),)),
    "get_deltas": (ops.get_deltas, lambda x: (x.boxes(B, x.count), x.boxes(B, x.count))),
    "linear_sum_assignment": (assign, lambda x: (x.randn(L, B, x.count, x.targets), x.valid)),
    "paired_giou": (ops.paired_giou, lambda x: (x.boxes(B, x.count), x.boxes(B, x.count))),
    "paired_iou": (ops.paired_iou, lambda x: (x.boxes(B, x.count), x.boxes(B, x.count))),
    "pairwise_giou": (ops.pairwise_giou, lambda x: (x.boxes(B, x.count), x.boxes(B, x.targets))),
    "pairwise_iou": (ops.pairwise_iou, lambda x: (x.boxes(B, x.count), x.boxes(B, x.targets))),
    "pyramid_roi_align": (pool, lambda x: (x.pyramid(), x.boxes(B, x.count), P, 2)),
    "rescale_boxes": (ops.rescale_boxes, lambda x: (x.boxes(B, x.count), x.sizes, x.originals)),
    "select_detections": (
        ops.select_detections,
        lambda x: (x.randn(B, x.count, K), x.boxes(B, x.count), x.sizes, 7, x.originals),
    ),
    "whwh": (ops.whwh, lambda x: (x.sizes,)),
    "xyxy_to_cxcywh": (ops.xyxy_to_cxcywh, lambda x: (x.boxes(B, x.count),)),
    # loss
    "match_proposals": (loss.match_proposals, lambda x: (*x.predictions(L), x.valid, x.sizes)),
    "matching_cost": (loss.matching_cost, lambda x: (*x.predictions(L), x.sizes)),
    "paired_giou_loss": (loss.paired_giou_loss, lambda x: (x.boxes(B, x.count), x.boxes(B, x.count))),
    "paired_l1_loss": (loss.paired_l1_loss, lambda x: (x.boxes(B, x.count), x.boxes(B, x.count))),
    "set_prediction_loss": (
        loss.set_prediction_loss,
        lambda x: (*x.predictions(L), x.valid, x.sizes, x.num_targets),
    ),
    "sigmoid_focal_loss": (
        loss.sigmoid_focal_loss,
        lambda x: (x.randn(B, x.count, K), x.randn(B, x.count, K) > 0),
    ),
}
# Functions of targets: with none of them in any image, and with more of them than proposals.
OF_TARGETS = ["linear_sum_assignment", "match_proposals", "matching_cost", "set_prediction_loss"]
# Functions that have boxes or proposals in their result, or a result of nothing.
OF_BOXES = sorted(set(TABLE) - set(OF_TARGETS) - {"flatten_pyramid", "whwh"})
DIFFERENTIABLE = [
    *("apply_deltas", "dynamic_interaction", "paired_giou", "pairwise_giou", "pyramid_roi_align"),
    *("paired_giou_loss", "paired_l1_loss", "set_prediction_loss", "sigmoid_focal_loss"),
]


class Wrapped(nn.Module):
    """``torch.export`` takes modules only."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *args):
        return self.function(*args)


def script(function, args):
    return torch.jit.script(function)(*args)


def compiled(function, args):
    return torch.compile(function, fullgraph=True, backend="aot_eager")(*args)


def export(function, args):
    return torch.export.export(Wrapped(function), args).module()(*args)


MODES = [script, compiled, export]


@pytest.fixture(autouse=True)
def _forget_graphs():
    torch.compiler.reset()


def leaves(result) -> list:
    if isinstance(result, (tuple, list)):
        return [leaf for part in result for leaf in leaves(part)]
    return [result]


def assert_equal_to_eager(mode, name, inputs):
    function, make_args = TABLE[name]
    args = make_args(inputs)
    expected, result = leaves(function(*args)), leaves(mode(function, args))
    tolerance = 1e-10 if inputs.dtype == torch.float64 else 1e-5
    assert len(result) == len(expected) > 0
    for mine, theirs in zip(result, expected, strict=True):
        if isinstance(theirs, Tensor):
            assert_close(mine, theirs, rtol=tolerance, atol=tolerance)
        else:
            assert mine == theirs


def test_the_table_is_complete():
    assert set(TABLE) == (set(ops.__all__) | set(loss.__all__)) - NO_FUNCTIONS_OF_TENSORS


@pytest.mark.parametrize("name", TABLE)
@pytest.mark.parametrize("mode", MODES)
def test_float32(mode, name):
    assert_equal_to_eager(mode, name, Inputs(torch.float32))


# Graphs of float64 are compiled for their gradients below; scripts are cheap enough for the whole table.
@pytest.mark.parametrize("name", TABLE)
def test_float64_script(name):
    assert_equal_to_eager(script, name, Inputs(torch.float64))


@pytest.mark.parametrize("name", OF_BOXES)
def test_no_boxes_script(name):
    assert_equal_to_eager(script, name, Inputs(torch.float32, count=0))


@pytest.mark.parametrize(
    "name", ["dynamic_interaction", "pairwise_giou", "pyramid_roi_align", "select_detections"]
)
@pytest.mark.parametrize("mode", [compiled, export])
def test_no_boxes(mode, name):
    assert_equal_to_eager(mode, name, Inputs(torch.float32, count=0))


@pytest.mark.parametrize("name", OF_TARGETS)
@pytest.mark.parametrize("mode", MODES)
def test_no_targets(mode, name):
    assert_equal_to_eager(mode, name, Inputs(torch.float32, targets=0))


@pytest.mark.parametrize("name", ["linear_sum_assignment", "set_prediction_loss"])
@pytest.mark.parametrize("mode", MODES)
def test_more_targets_than_proposals(mode, name):
    assert_equal_to_eager(mode, name, Inputs(torch.float32, count=1))


@pytest.mark.parametrize("name", DIFFERENTIABLE)
@pytest.mark.parametrize("mode", [script, compiled])
def test_float64_with_gradients(mode, name):
    function, make_args = TABLE[name]
    found = []
    for call in (lambda function, args: function(*args), mode):
        args = make_args(Inputs(torch.float64))
        tensors = [leaf for leaf in leaves(args) if isinstance(leaf, Tensor) and leaf.dtype == torch.float64]
        for tensor in tensors:
            tensor.requires_grad_()
        values = leaves(call(function, args))
        total = torch.stack([value.square().sum() for value in values]).sum()
        found.append([*values, *torch.autograd.grad(total, tensors, materialize_grads=True)])
    for mine, theirs in zip(*found, strict=True):
        assert_close(mine, theirs, rtol=1e-9, atol=1e-9)
