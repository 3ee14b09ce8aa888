"""Generated calls of every public function of ops and loss, and of the detector, with odd arguments.

A call gives a result or a ValueError that names an argument, within seconds; finite arguments give no NaN.
SPARSE_RCNN_FUZZ_CALLS sets the number of calls, SPARSE_RCNN_FUZZ_SEED where they start.
"""

import inspect
import math
import os
import random
import time
import warnings

import numpy as np
import pytest
import torch
from small_model import build_small_model
from torch import Tensor
from torchvision.tv_tensors import BoundingBoxes

from sparse_rcnn import loss, ops
from sparse_rcnn.loss import LossWeights
from sparse_rcnn.nn import EndToEndDetector

CALLS = int(os.environ.get("SPARSE_RCNN_FUZZ_CALLS", "2000"))
SEED = int(os.environ.get("SPARSE_RCNN_FUZZ_SEED", "0"))
DTYPES = [
    *(torch.float16, torch.bfloat16, torch.float64, torch.int32, torch.int64, torch.uint8, torch.int8),
    *(torch.bool, torch.complex64, torch.uint16),
]
VALUES = [math.nan, math.inf, -math.inf, 1e30, -1e30, -1.0, 0.0, 1.0, 2.5, 1e-30, 300.0]
NUMBERS = [
    *VALUES,
    -1,
    0,
    1,
    3,
    10**9,
    10**400,
    True,
    "2",
    None,
    [1],
    np.float32(2),
    np.int64(2),
    torch.ones(()),
]
THINGS = [None, "boxes", 3, [1.0, 2.0], (), {}, np.zeros((2, 4)), [torch.zeros(2, 4)]]
# Functions where finite numbers may give NaN: they multiply features, as any network does.
FINITE_BELOW = {
    "apply_deltas": 1e15,
    "dynamic_interaction": 1e6,
    "get_deltas": -1.0,
    "pyramid_roi_align": 1e30,
}


class Arguments:
    """Arguments that fit together, of small random sizes."""

    def __init__(self, rng: random.Random):
        self.rng = rng
        self.generator = torch.Generator().manual_seed(rng.getrandbits(32))
        self.L, self.B, self.N, self.M = (
            rng.randint(1, 2),
            rng.randint(1, 3),
            rng.randint(0, 5),
            rng.randint(0, 4),
        )
        self.K, self.C, self.D, self.P = (
            rng.randint(1, 4),
            4 * rng.randint(1, 2),
            rng.randint(1, 3),
            rng.randint(1, 3),
        )

    def randn(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self.generator)

    def boxes(self, *shape: int) -> Tensor:
        boxes = 60 * torch.rand(*shape, 4, generator=self.generator)
        return torch.cat((boxes[..., :2], boxes[..., :2] + boxes[..., 2:]), dim=-1)

    def sizes(self) -> Tensor:
        return torch.randint(32, 100, (self.B, 2), generator=self.generator)

    def levels(self) -> list[Tensor]:
        return [
            self.randn(self.B, self.C, 16 // 2**level, 8 // 2**level)
            for level in range(self.rng.randint(1, 4))
        ]

    def predictions(self, stages: bool) -> list[Tensor]:
        leading = (self.L,) if stages else ()
        labels = torch.randint(0, self.K, (self.B, self.M), generator=self.generator)
        return [
            self.randn(*leading, self.B, self.N, self.K),
            self.boxes(*leading, self.B, self.N),
            self.boxes(self.B, self.M),
            labels,
        ]

    def valid(self) -> Tensor:
        return torch.rand(self.B, self.M, generator=self.generator) < 0.7

    def dense(self) -> list[Tensor]:
        boxes, labels = self.boxes(self.B, self.M), torch.randint(0, self.K, (self.B, self.M))
        predicted = [
            self.randn(self.B, self.N, self.K),
            self.boxes(self.B, self.N),
            60 * self.randn(self.N, 2),
        ]
        return [*predicted, boxes, labels, self.valid()]

    def interaction(self) -> list[Tensor]:
        c, d, p = self.C, self.D, self.P
        shapes = [(2 * c * d, c), (2 * c * d,), (d,), (d,), (c,), (c,), (c, p * p * c), (c,), (c,), (c,)]
        features = [self.randn(self.B, self.N, c), self.randn(self.B, self.N, p * p, c)]
        return features + [self.randn(*shape) for shape in shapes]


PAIR = [lambda a: (a.boxes(a.N), a.boxes(a.N)), lambda a: (a.boxes(a.B, a.N), a.boxes(a.B, a.M))]
DELTAS = (2.0, 2.0, 1.0, 1.0)
CALLED = {
    "add_positional_encoding": (ops.add_positional_encoding, lambda a: (a.levels(), a.sizes(), 1e4)),
    "apply_deltas": (ops.apply_deltas, lambda a: (a.randn(a.N, 4), a.boxes(a.N), DELTAS, 8.7)),
    "assign_levels": (ops.assign_levels, lambda a: (a.boxes(a.N), 4, 224.0, 4.0)),
    "box_area": (ops.box_area, lambda a: (a.boxes(a.N),)),
    "clip_boxes": (ops.clip_boxes, lambda a: (a.boxes(a.B, a.N), a.sizes())),
    "cxcywh_to_xyxy": (ops.cxcywh_to_xyxy, lambda a: (a.boxes(a.N),)),
    "dynamic_interaction": (ops.dynamic_interaction, lambda a: (*a.interaction(), 1e-5)),
    "flatten_pyramid": (ops.flatten_pyramid, lambda a: (a.levels(),)),
    "get_deltas": (ops.get_deltas, lambda a: (a.boxes(a.N), a.boxes(a.N), DELTAS)),
    "linear_sum_assignment": (ops.linear_sum_assignment, lambda a: (a.randn(a.L, a.B, a.N, a.M), a.valid())),
    "paired_giou": (ops.paired_giou, PAIR[0]),
    "paired_iou": (ops.paired_iou, PAIR[0]),
    "pairwise_giou": (ops.pairwise_giou, PAIR[1]),
    "pairwise_iou": (ops.pairwise_iou, PAIR[1]),
    "pyramid_roi_align": (
        ops.pyramid_roi_align,
        lambda a: (ops.flatten_pyramid(a.levels()), a.boxes(a.B, a.N), a.P, 2),
    ),
    "rescale_boxes": (ops.rescale_boxes, lambda a: (a.boxes(a.B, a.N), a.sizes(), a.sizes())),
    "select_detections": (
        ops.select_detections,
        lambda a: (a.randn(a.B, a.N, a.K), a.boxes(a.B, a.N), a.sizes(), 7, a.sizes()),
    ),
    "shortest_side_resize": (ops.shortest_side_resize, lambda a: (40, 50, 64, 128)),
    "whwh": (ops.whwh, lambda a: (a.sizes(),)),
    "xyxy_to_cxcywh": (ops.xyxy_to_cxcywh, lambda a: (a.boxes(a.N),)),
    "match_proposals": (
        loss.match_proposals,
        lambda a: (*a.predictions(True), a.valid(), a.sizes(), LossWeights()),
    ),
    "matching_cost": (loss.matching_cost, lambda a: (*a.predictions(True), a.sizes(), LossWeights())),
    "paired_giou_loss": (loss.paired_giou_loss, PAIR[0]),
    "paired_l1_loss": (loss.paired_l1_loss, PAIR[0]),
    "dense_prediction_loss": (
        loss.dense_prediction_loss,
        lambda a: (*a.dense(), torch.tensor(3.0), 1.0, 2.0, 9),
    ),
    "task_aligned_assignment": (loss.task_aligned_assignment, lambda a: (*a.dense(), 9)),
    "set_prediction_loss": (
        loss.set_prediction_loss,
        lambda a: (*a.predictions(True), a.valid(), a.sizes(), torch.tensor(3.0), LossWeights()),
    ),
    "sigmoid_focal_loss": (
        loss.sigmoid_focal_loss,
        lambda a: (a.randn(a.N, a.K), (a.randn(a.N, a.K) > 0).float(), 0.25, 2.0),
    ),
}


def odd_tensor(x: Tensor, rng: random.Random):
    """``x`` changed in one way, or something else in its place."""
    kind = rng.randrange(8)
    if x.is_complex():  # odd enough, from the change before
        return x
    if kind == 0:
        return x.to(rng.choice(DTYPES))
    if kind == 1 and x.numel() > 0:
        kept = x.dtype == torch.bool or rng.random() < 0.5
        x = (x if kept else x.double()).detach().clone(memory_format=torch.contiguous_format)
        value = rng.choice(VALUES)
        whole = int(np.nan_to_num(value, posinf=9, neginf=-9)) % 100
        x.view(-1)[rng.randrange(x.numel())] = value if x.is_floating_point() else whole
        return x
    if kind == 2:
        return (x.double() * rng.choice([1e30, -1, 0, 1e-30, 1e15])).to(
            rng.choice([torch.float32, torch.float64])
        )
    if kind == 3 and x.dim() > 0:
        return rng.choice([lambda: x[..., :-1], lambda: x[None], lambda: x[:0], lambda: x.transpose(0, -1)])()
    if kind == 4:
        return x.reshape(-1)[: rng.randint(0, x.numel())].reshape(rng.choice([(-1,), (1, -1)]))
    if kind == 5 and x.shape[-1:] == (4,):
        return BoundingBoxes(
            x.reshape(-1, 4), format=rng.choice(["CXCYWH", "XYWH", "XYXY"]), canvas_size=(64, 64)
        )
    return rng.choice([x, x.detach().requires_grad_() if x.is_floating_point() else x, *THINGS])


def odd(value, rng: random.Random):
    if isinstance(value, Tensor):
        return odd_tensor(value, rng)
    if isinstance(value, LossWeights):
        return rng.choice(
            [value._replace(**{rng.choice(value._fields): rng.choice(NUMBERS)}), 2.0, None, (1, 2)]
        )
    if isinstance(value, (list, tuple)) and not isinstance(value, ops.Pyramid):
        changed = list(value)
        if rng.random() < 0.2:
            return rng.choice([[], None, "levels", changed[:-1]])
        if not changed:
            return value
        index = rng.randrange(len(changed))
        changed[index] = odd(changed[index], rng)
        return type(value)(changed)
    return rng.choice(NUMBERS if not isinstance(value, ops.Pyramid) else THINGS)


def tensors_of(value):
    if isinstance(value, (list, tuple)):
        return [tensor for part in value for tensor in tensors_of(part)]
    return [value] if isinstance(value, Tensor) else []


def is_finite_below(tensor: Tensor, limit: float) -> bool:
    return not tensor.is_floating_point() or bool((tensor.double().abs() <= limit).all())


def check_call(name, function, arguments, limit: float) -> str:
    """Whether a call was refused. Raises AssertionError if it broke a promise."""
    finite = all(is_finite_below(tensor, limit) for tensor in tensors_of(arguments))
    start = time.monotonic()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            result = function(*arguments)
    except ValueError as error:
        parameters = inspect.signature(function).parameters
        if not any(parameter in str(error) for parameter in parameters):
            raise AssertionError(f"no argument is named by: {error}") from error
        return "refused"
    assert time.monotonic() - start < 60, "took too long"
    if finite:
        assert not any(bool(tensor.isnan().any()) for tensor in tensors_of(result)), "NaN"
    return "held"


def run_calls(called, count: int, seed: int) -> dict[str, int]:
    outcomes = {"held": 0, "refused": 0}
    for number in range(seed, seed + count):
        rng = random.Random(number)
        name = rng.choice(sorted(called))
        function, make = called[name]
        arguments = list(make(Arguments(rng)))
        for _ in range(rng.choice([0, 1, 1, 1, 2, 3])):
            index = rng.randrange(len(arguments))
            arguments[index] = odd(arguments[index], rng)
        try:
            outcomes[check_call(name, function, arguments, FINITE_BELOW.get(name, 1e31))] += 1
        except Exception as error:
            shown = [(tuple(a.shape), a.dtype) if isinstance(a, Tensor) else a for a in arguments]
            pytest.fail(f"call {number}: {name}({shown}): {type(error).__name__}: {error}")
    return outcomes


def test_every_public_function_is_called():
    functions = {name for room in (ops, loss) for name in room.__all__ if name[0].islower()}
    assert set(CALLED) == functions


def test_functions():
    outcomes = run_calls(CALLED, CALLS, SEED)
    assert min(outcomes.values()) > CALLS // 5


def test_detector():
    detector = EndToEndDetector(build_small_model(backbone="resnet10", num_stages=1).eval(), 5)

    def make(a: Arguments):
        height, width = a.rng.randint(1, 70), a.rng.randint(1, 70)
        images = torch.rand(a.B, 3, height, width, generator=a.generator)
        sizes = torch.tensor([[height, width]] * a.B)
        return images, a.rng.choice([sizes, sizes, None])

    def call(images, image_sizes):
        with torch.no_grad():
            return detector(images, image_sizes)

    outcomes = run_calls({"detector": (call, make)}, max(CALLS // 40, 1), SEED)
    assert min(outcomes.values()) > 0
