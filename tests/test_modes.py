"""Every public function and module gives the same in all modes: eager, script, compile and export."""

from collections.abc import Callable

import pytest
import torch
from small_model import ShortBackbone, build_small_model
from torch import Tensor, nn
from torch.testing import assert_close

import sparse_rcnn
from sparse_rcnn import loss, ops

# Types of results, and functions of plain data: sizes, files and state dicts.
NO_FUNCTIONS_OF_TENSORS = {
    *(
        "Detections",
        "LossWeights",
        "compile_detector",
        "load_detector",
        "Pyramid",
        "Predictions",
        "SetLoss",
        "DenseLoss",
        "DensePredictions",
        "__version__",
    ),
    *("shortest_side_resize", "build_sparse_rcnn", "build_from_checkpoint", "checkpoint_class_names"),
    *("from_detectron2", "from_mmdetection", "infer_config", "load_weights", "read_checkpoint"),
    *("ModelConfig", "PyramidBackbone", "Checkpoint", "ImageSize", "load_checkpoint", "save_checkpoint"),
    *("fold_first_stage", "fold_norms", "recognize_layout", "to_detectron2", "to_mmdetection"),
    "cast_weights",
}
N, M, K, L, C, D, P = 5, 3, 4, 2, 4, 3, 3


class Inputs:
    """Tensors of one floating-point type; ``count`` boxes or proposals, ``targets`` targets per image."""

    def __init__(self, dtype, count=N, targets=M, batch=2, seed=0):
        self.generator = torch.Generator().manual_seed(seed)
        self.dtype, self.count, self.targets, self.batch = dtype, count, targets, batch
        self.sizes = torch.tensor([[40, 60], [64, 50]])[:batch]
        self.originals = torch.tensor([[20, 30], [100, 71]])[:batch]
        self.labels = torch.randint(0, K, (batch, targets), generator=self.generator)
        self.valid = torch.arange(targets) < torch.tensor([[2], [3]])[:batch]
        self.num_targets = torch.tensor(5.0)

    def randn(self, *shape) -> Tensor:
        return torch.randn(*shape, generator=self.generator, dtype=torch.float64).to(self.dtype)

    def boxes(self, *shape) -> Tensor:
        corners = 20 + 10 * torch.rand(*shape, 4, generator=self.generator, dtype=torch.float64)
        return (corners + torch.tensor([-20.0, -20.0, 20.0, 20.0])).to(self.dtype)

    def images(self) -> tuple[Tensor, Tensor]:
        images = torch.randint(0, 256, (self.batch, 3, 64, 96), generator=self.generator)
        return images.to(torch.uint8), self.sizes

    def pyramid(self, channels=C) -> list[Tensor]:
        return [self.randn(self.batch, channels, 16 // 2**level, 15 // 2**level + 1) for level in range(4)]

    def interaction(self) -> list[Tensor]:
        shapes = [(2 * C * D, C), (2 * C * D,), (D,), (D,), (C,), (C,), (C, P * P * C), (C,), (C,), (C,)]
        features = [self.randn(self.batch, self.count, C), self.randn(self.batch, self.count, P * P, C)]
        return features + [self.randn(*shape) for shape in shapes]

    def predictions(self, *leading) -> list[Tensor]:
        return [
            self.randn(*leading, self.batch, self.count, K),
            self.boxes(*leading, self.batch, self.count),
            self.boxes(self.batch, self.targets),
            self.labels,
        ]

    def dense(self) -> list[Tensor]:
        """Predictions of positions whose middle is in most targets."""
        logits, *boxes = self.predictions()
        return [logits, boxes[0], 25 + self.randn(self.count, 2), *boxes[1:]]


def assign(cost: Tensor, valid: Tensor) -> Tensor:
    """How the operator is called from inside of a graph."""
    return torch.ops.sparse_rcnn.linear_sum_assignment(cost, valid)


def pool(features: list[Tensor], boxes: Tensor, pool_size: int, sampling_ratio: int) -> Tensor:
    """The two halves together: a pyramid is no input of an exported graph."""
    return ops.pyramid_roi_align(ops.flatten_pyramid(features), boxes, pool_size, sampling_ratio)


def dtype_of(model: nn.Module) -> torch.dtype:
    return next(model.parameters()).dtype


class OneStage(nn.Module):
    """As ``pool``: a stage takes a pyramid."""

    def __init__(self, stage):
        super().__init__()
        self.stage = stage

    def forward(self, features: list[Tensor], boxes: Tensor, proposals: Tensor):
        return self.stage(ops.flatten_pyramid(features), boxes, proposals)


torch.manual_seed(0)
SHORT = ShortBackbone()
TABLE: dict[str, tuple[Callable, Callable[[Inputs], tuple]]] = {
    # ops
    "add_positional_encoding": (ops.add_positional_encoding, lambda x: (x.pyramid(), x.sizes)),
    "apply_deltas": (ops.apply_deltas, lambda x: (x.randn(x.batch, x.count, 4), x.boxes(x.batch, x.count))),
    "assign_levels": (ops.assign_levels, lambda x: (x.boxes(x.batch, x.count) * 10, 4)),
    "box_area": (ops.box_area, lambda x: (x.boxes(x.batch, x.count),)),
    "clip_boxes": (ops.clip_boxes, lambda x: (x.boxes(x.batch, x.count) * 2, x.sizes)),
    "cxcywh_to_xyxy": (ops.cxcywh_to_xyxy, lambda x: (x.boxes(x.batch, x.count),)),
    "dynamic_interaction": (ops.dynamic_interaction, lambda x: tuple(x.interaction())),
    "flatten_pyramid": (ops.flatten_pyramid, lambda x: (x.pyramid(),)),
    "get_deltas": (ops.get_deltas, lambda x: (x.boxes(x.batch, x.count), x.boxes(x.batch, x.count))),
    "linear_sum_assignment": (assign, lambda x: (x.randn(L, x.batch, x.count, x.targets), x.valid)),
    "paired_giou": (ops.paired_giou, lambda x: (x.boxes(x.batch, x.count), x.boxes(x.batch, x.count))),
    "paired_iou": (ops.paired_iou, lambda x: (x.boxes(x.batch, x.count), x.boxes(x.batch, x.count))),
    "pairwise_giou": (ops.pairwise_giou, lambda x: (x.boxes(x.batch, x.count), x.boxes(x.batch, x.targets))),
    "pairwise_iou": (ops.pairwise_iou, lambda x: (x.boxes(x.batch, x.count), x.boxes(x.batch, x.targets))),
    "pyramid_roi_align": (pool, lambda x: (x.pyramid(), x.boxes(x.batch, x.count), P, 2)),
    "rescale_boxes": (ops.rescale_boxes, lambda x: (x.boxes(x.batch, x.count), x.sizes, x.originals)),
    "select_detections": (
        ops.select_detections,
        lambda x: (x.randn(x.batch, x.count, K), x.boxes(x.batch, x.count), x.sizes, 7, x.originals),
    ),
    "whwh": (ops.whwh, lambda x: (x.sizes,)),
    "xyxy_to_cxcywh": (ops.xyxy_to_cxcywh, lambda x: (x.boxes(x.batch, x.count),)),
    # loss
    "dense_prediction_loss": (loss.dense_prediction_loss, lambda x: (*x.dense(), x.valid, x.num_targets)),
    "match_proposals": (loss.match_proposals, lambda x: (*x.predictions(L), x.valid, x.sizes)),
    "matching_cost": (loss.matching_cost, lambda x: (*x.predictions(L), x.sizes)),
    "paired_giou_loss": (
        loss.paired_giou_loss,
        lambda x: (x.boxes(x.batch, x.count), x.boxes(x.batch, x.count)),
    ),
    "paired_l1_loss": (loss.paired_l1_loss, lambda x: (x.boxes(x.batch, x.count), x.boxes(x.batch, x.count))),
    "set_prediction_loss": (
        loss.set_prediction_loss,
        lambda x: (*x.predictions(L), x.valid, x.sizes, x.num_targets),
    ),
    "sigmoid_focal_loss": (
        loss.sigmoid_focal_loss,
        lambda x: (x.randn(x.batch, x.count, K), x.randn(x.batch, x.count, K) > 0),
    ),
    "task_aligned_assignment": (loss.task_aligned_assignment, lambda x: (*x.dense(), x.valid)),
}
# Modules: what is called, of those of a small model, and its arguments. It is called by itself, as users do.
MODULES: dict[str, tuple[Callable[[nn.Module], nn.Module], Callable[[Inputs], tuple]]] = {
    "Backbone": (lambda model: model.backbone, lambda x: (x.randn(x.batch, 3, 64, 96),)),
    "BoxHead": (
        lambda model: sparse_rcnn.nn.BoxHead(16, 8, 3).eval().requires_grad_(False).to(dtype_of(model)),
        lambda x: (x.randn(1, N, 16), x.randn(x.batch, N, 9, 16)),
    ),
    "DenseProposals": (
        lambda model: sparse_rcnn.nn.DenseProposals(N, 16, K).requires_grad_(False).to(dtype_of(model)),
        lambda x: (x.sizes, x.pyramid(16)),
    ),
    "DynamicInteraction": (
        lambda model: model.head.stages[0].interaction,
        lambda x: (x.randn(x.batch, N, 16), x.randn(x.batch, N, 9, 16)),
    ),
    "EndToEndDetector": (lambda model: sparse_rcnn.nn.EndToEndDetector(model, 7), lambda x: x.images()),
    "Head": (
        lambda model: model.head,
        lambda x: (x.pyramid(16), x.boxes(x.batch, N), x.randn(1, N, 16)),
    ),
    "Proposals": (lambda model: model.proposals, lambda x: (x.sizes,)),
    "SparseRCNN": (lambda model: model, lambda x: x.images()),
    "Stage": (
        lambda model: OneStage(model.head.stages[0]),
        lambda x: (x.pyramid(16), x.boxes(x.batch, N), x.randn(x.batch, N, 16)),
    ),
}
# Lists of images of any size in, and lists of as many detections as are found out: no static shapes.
SCRIPTED_ONLY = {"ImageListDetector"}
# Functions of targets: with none of them in any image, and with more of them than proposals.
OF_TARGETS = [
    *("dense_prediction_loss", "linear_sum_assignment", "match_proposals", "matching_cost"),
    *("set_prediction_loss", "task_aligned_assignment"),
]
# Functions that have boxes or proposals in their result, or a result of nothing.
OF_BOXES = sorted(set(TABLE) - set(OF_TARGETS) - {"add_positional_encoding", "flatten_pyramid", "whwh"})
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
TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5, torch.bfloat16: 1e-2}


@pytest.fixture(autouse=True)
def _forget_graphs():
    torch.compiler.reset()


def leaves(result) -> list:
    if isinstance(result, (tuple, list)):
        return [leaf for part in result for leaf in leaves(part)]
    return [result]


def function_and_args(name, inputs):
    if name in TABLE:
        function, make_args = TABLE[name]
    else:
        choose, make_args = MODULES[name]
        backbone = "resnet10" if name == "Backbone" else SHORT
        model = build_small_model(backbone=backbone, num_classes=K, num_proposals=N)
        function = choose(model.to(inputs.dtype).eval())
    return function, make_args(inputs)


def assert_equal_to_eager(mode, name, inputs):
    function, args = function_and_args(name, inputs)
    expected, result = leaves(function(*args)), leaves(mode(function, args))
    tolerance = TOLERANCE[inputs.dtype] * (10 if name in MODULES else 1)
    assert len(result) == len(expected) > 0
    for mine, theirs in zip(result, expected, strict=True):
        if isinstance(theirs, Tensor):
            assert_close(mine, theirs, rtol=tolerance, atol=tolerance)
        else:
            assert mine == theirs


def test_the_table_is_complete():
    public = {name for floor in (ops, loss, sparse_rcnn.nn, sparse_rcnn) for name in floor.__all__}
    assert set(TABLE) | set(MODULES) | SCRIPTED_ONLY == public - NO_FUNCTIONS_OF_TENSORS


# All functions scripted and compiled, which traces as export does; of modules, every one scripted, and the
# whole exported.
INNER = [(mode, name) for mode in (script, compiled) for name in TABLE]
INNER += [(script, name) for name in MODULES] + [(export, "EndToEndDetector")]
OUTER = [(mode, name) for mode in MODES for name in (*TABLE, *MODULES) if (mode, name) not in INNER]


@pytest.mark.parametrize(
    ("mode", "name"), [*INNER, *(pytest.param(*case, marks=pytest.mark.slow) for case in OUTER)]
)
def test_float32(mode, name):
    assert_equal_to_eager(mode, name, Inputs(torch.float32))


# The ablations of the paper, in all combinations that give different graphs.
BOX_HEAD = {"interaction": "fully_connected", "fully_connected_dim": 8}
BARE = {"self_attention": False, "feedforward_dim": 0, "classification_layers": 0, "regression_layers": 0}
ABLATIONS = [
    {**BOX_HEAD, **BARE, "feature_reuse": False, "positional_encoding": True},
    {**BOX_HEAD, **BARE},
    {**BOX_HEAD, "regression_layers": 0},
    {"feature_reuse": False},
    {**BARE, "positional_encoding": True},
    {"proposals": "dense"},
]


@pytest.mark.slow
@pytest.mark.parametrize("changes", ABLATIONS, ids=lambda changes: "-".join(changes))
def test_ablations(changes):
    model = build_small_model(backbone=SHORT, num_classes=K, num_proposals=N, **changes).eval()
    args = Inputs(torch.float32).images()
    expected = leaves(model(*args))
    for mode in MODES:
        for mine, theirs in zip(leaves(mode(model, args)), expected, strict=True):
            assert_close(mine, theirs, rtol=1e-4, atol=1e-4)


# Export traces as the compiler does: both see the same types.
@pytest.mark.slow
@pytest.mark.parametrize("name", TABLE)
@pytest.mark.parametrize("mode", [script, compiled])
def test_float64(mode, name):
    assert_equal_to_eager(mode, name, Inputs(torch.float64))


@pytest.mark.slow
@pytest.mark.parametrize("name", MODULES)
def test_float64_modules_script(name):
    assert_equal_to_eager(script, name, Inputs(torch.float64))


# Modules in bfloat16 run under autocast, with parameters in float32: tests/nn/test_one_graph.py.
@pytest.mark.slow
@pytest.mark.parametrize("name", TABLE)
@pytest.mark.parametrize("mode", [script, compiled])
def test_bfloat16(mode, name):
    assert_equal_to_eager(mode, name, Inputs(torch.bfloat16))


# Of modules, the whole holds all others but one.
OF_ONE = [(mode, name) for mode in MODES for name in (*TABLE, "EndToEndDetector", "DenseProposals")]
OF_ONE += [(script, name) for name in MODULES if (script, name) not in OF_ONE]


@pytest.mark.slow
@pytest.mark.parametrize(("mode", "name"), OF_ONE)
def test_batch_of_one(mode, name):
    assert_equal_to_eager(mode, name, Inputs(torch.float32, batch=1))


@pytest.mark.slow
@pytest.mark.parametrize("name", OF_BOXES)
@pytest.mark.parametrize("mode", MODES)
def test_no_boxes(mode, name):
    assert_equal_to_eager(mode, name, Inputs(torch.float32, count=0))


@pytest.mark.slow
@pytest.mark.parametrize("name", OF_TARGETS)
@pytest.mark.parametrize("mode", MODES)
def test_no_targets(mode, name):
    assert_equal_to_eager(mode, name, Inputs(torch.float32, targets=0))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["linear_sum_assignment", "set_prediction_loss"])
@pytest.mark.parametrize("mode", MODES)
def test_more_targets_than_proposals(mode, name):
    assert_equal_to_eager(mode, name, Inputs(torch.float32, count=1))


@pytest.mark.slow
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


@pytest.mark.filterwarnings("ignore:There is a performance drop:UserWarning")
@pytest.mark.parametrize("name", sorted(TABLE))
def test_vmap(name):
    function, args = function_and_args(name, Inputs(torch.float64))
    other = function_and_args(name, Inputs(torch.float64, seed=1))[1]
    is_tensor = [isinstance(argument, Tensor) for argument in args]

    def stack(first, second):
        if isinstance(first, list):
            return [stack(*pair) for pair in zip(first, second, strict=True)]
        return torch.stack((first, second)) if isinstance(first, Tensor) else first

    in_dims = tuple(0 if tensor or isinstance(args[i], list) else None for i, tensor in enumerate(is_tensor))

    def tensors(*arguments):
        return tuple(leaf for leaf in leaves(function(*arguments)) if isinstance(leaf, Tensor))

    found = torch.func.vmap(tensors, in_dims=in_dims)(*[stack(*p) for p in zip(args, other, strict=True)])
    for index, arguments in enumerate((args, other)):
        for mine, theirs in zip(found, tensors(*arguments), strict=True):
            assert_close(mine[index], theirs, rtol=1e-9, atol=1e-9)
