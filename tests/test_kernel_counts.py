"""The number of kernels on a GPU, and the memory for the backward pass, counted on fake tensors."""

from collections.abc import Iterator

import pytest
import torch
from kernel_counts import KernelCounts, SavedTensors, cuda_autocast
from parts.training.arguments import parse_arguments
from parts.training.training_state import TrainingState
from parts.training.training_step import TrainingStep
from small_model import build_small_model, random_batch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from sparse_rcnn import build_sparse_rcnn
from sparse_rcnn.nn import EndToEndDetector, cast_weights, fold_first_stage, fold_norms
from sparse_rcnn.ops import apply_deltas, flatten_pyramid, pyramid_roi_align

pytestmark = pytest.mark.skipif(
    torch.version.cuda is None, reason="a build of torch without CUDA cannot fake CUDA tensors"
)
N = 300
# Where values are looked at on a CPU, and nowhere else.
GUARDED = ("nn.input_checks", "loss.focal", "loss.set_loss", "loss.cost", "loss.matcher")


@pytest.fixture
def fake() -> Iterator[None]:
    """Tensors are fake: they have a device, which is not there, but no data."""
    with FakeTensorMode():
        yield


def published_model() -> torch.nn.Module:
    with torch.device("cuda"):
        return build_sparse_rcnn(num_proposals=N, backbone_weights=None)


def on_cuda(model: torch.nn.Module, mode: FakeTensorMode) -> None:
    """Makes the weights of a real model fake ones on a GPU."""
    for module in model.modules():
        for tensors in (module._parameters, module._buffers):
            for name, tensor in tensors.items():
                tensors[name] = None if tensor is None else mode.from_tensor(tensor).to("cuda")


def images_of(batch: int) -> tuple[Tensor, Tensor]:
    images = torch.zeros(batch, 3, 800, 1216, dtype=torch.uint8, device="cuda")
    return images, torch.ones(batch, 2, dtype=torch.int64, device="cuda")


def targets_of(batch: int) -> tuple[Tensor, ...]:
    boxes, valid = torch.zeros(batch, 7, 4, device="cuda"), torch.ones(batch, 7, device="cuda")
    return boxes, valid.long(), valid.bool(), torch.ones((), device="cuda")


@pytest.mark.usefixtures("fake")
def test_kernels_of_operators() -> None:
    levels = [torch.zeros(2, 256, 200 >> level, 304 >> level, device="cuda") for level in range(4)]
    pyramid, boxes = flatten_pyramid(levels), torch.zeros(2, N, 4, device="cuda")
    with KernelCounts() as counts:
        pyramid_roi_align(pyramid, boxes)
    assert 0 < counts.total <= 45
    with KernelCounts() as counts:
        apply_deltas(boxes, boxes)
    assert 0 < counts.total <= 14


@pytest.mark.usefixtures("fake")
def test_kernels_of_inference() -> None:
    model = published_model().eval()
    images, sizes = images_of(1)
    with torch.no_grad(), KernelCounts() as counts:
        model(images, sizes)
    assert 0 < counts.total <= 784
    assert counts.by_name["convolution"] == 61
    assert counts.by_name["addcmul"] == 53  # one of each frozen norm, and nothing else of it
    assert counts.by_name["rsqrt"] == 0


@pytest.mark.slow
def test_kernels_of_the_folded_detector() -> None:
    """Folding computes constants, so the model is real first, and then fake."""
    model = build_sparse_rcnn(num_proposals=N, backbone_weights=None).eval()
    model = fold_first_stage(fold_norms(model)).requires_grad_(False)
    cast = cast_weights(model, "cuda")
    with FakeTensorMode() as mode:
        on_cuda(model, mode)
        with torch.no_grad(), KernelCounts() as counts:
            EndToEndDetector(model)(*images_of(1))
        on_cuda(cast, mode)
        with torch.no_grad(), KernelCounts() as in_bfloat16, cuda_autocast():
            EndToEndDetector(cast)(*images_of(1))
    assert 0 < counts.total <= 739
    assert counts.by_name["addcmul"] == 0  # no norm of the backbone is left
    assert 0 < in_bfloat16.total <= 900
    assert in_bfloat16.by_name["_to_copy"] <= 136, in_bfloat16.by_name  # of activations


@pytest.mark.slow
@pytest.mark.usefixtures("fake")
def test_what_training_keeps_in_bfloat16() -> None:
    step = TrainingStep(published_model())
    inputs = (*images_of(2), *targets_of(2))
    with KernelCounts() as counts:
        step(*inputs)
    assert 0 < counts.total <= 1037  # in float32
    with KernelCounts() as counts, SavedTensors() as saved, cuda_autocast():
        step(*inputs)
    assert 0 < counts.total <= 1429
    assert counts.by_name["native_layer_norm"] == 60
    found = list(saved.tensors.values())
    large = [kept for kept in found if kept.dtype == torch.float32 and kept.numel() >= 2 * N * 49 * 64]
    # Neither RoI features, which are float32 from pooling on, nor their norms, nor a level of the pyramid.
    assert {tuple(kept.shape) for kept in large if not isinstance(kept, torch.nn.Parameter)} == set()
    in_full = sum(kept.untyped_storage().nbytes() for kept in found if kept.dtype == torch.float32)
    in_half = sum(kept.untyped_storage().nbytes() for kept in found if kept.dtype == torch.bfloat16)
    assert in_half <= 1350e6
    assert in_full - sum(p.nbytes for p in step.parameters()) <= 120e6


@pytest.mark.usefixtures("fake")
def test_the_optimiser_is_one_kernel() -> None:
    arguments = parse_arguments(None, ["--data", "coco"])
    state = TrainingState(published_model(), arguments, torch.device("cuda"))
    assert len(state.optimizer.param_groups) == 1
    for parameter in state.parameters:
        parameter.grad = torch.zeros_like(parameter)
    state.optimizer.step()  # makes the moments
    with KernelCounts() as counts:
        state.optimizer.step()
    assert counts.by_name == {"_foreach_add_": 1, "_fused_adamw_": 1}


def test_kernels_of_a_training_step_with_its_backward_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """On real tensors: PyTorch runs no backward pass of fake ones without the driver of a GPU."""
    for module in GUARDED:  # values are looked at on a CPU only
        monkeypatch.setattr(f"sparse_rcnn.{module}.readable", lambda *_: False)
    model = build_small_model(backbone="resnet10", backbone_norm="frozen")
    boxes = torch.tensor([[[5.0, 5.0, 30.0, 40.0]], [[9.0, 4.0, 60.0, 50.0]]])
    labels, valid = torch.zeros(2, 1, dtype=torch.int64), torch.ones(2, 1, dtype=torch.bool)
    with KernelCounts() as counts:
        losses = TrainingStep(model)(*random_batch(2, 64, 64), boxes, labels, valid, torch.tensor(2.0)).losses
        forward = counts.total
        losses.total.backward()
    assert 0 < forward <= 516
    assert 0 < counts.total - forward <= 427
