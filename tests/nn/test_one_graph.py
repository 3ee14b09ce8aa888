"""One graph: the whole detector, and the whole training step, compiled, scripted and exported.

With a small model always, and with the published ResNet-50 of 100 proposals once per release
(`pytest -m release`). The compiler's front half, `aot_eager`, decides about graphs, breaks and recompilations
in a fraction of the time; Inductor behind it is tested once for inference and once for training.
"""

import copy
import itertools
import random
import re
import shutil

import pytest
import torch
from parts.training.training_step import TrainingStep, compile_step, leave_open
from processes import run_python
from small_model import ShortBackbone, build_published_model, build_small_model, random_batch
from torch import Tensor, nn
from torch._dynamo.eval_frame import _debug_get_cache_entry_list
from torch._dynamo.utils import counters

from sparse_rcnn.data.loading.transforms import TRAINING_SIZES
from sparse_rcnn.nn import EndToEndDetector, ImageListDetector, compile_detector
from sparse_rcnn.ops import select_detections, shortest_side_resize

NEEDS_COMPILER = pytest.mark.skipif(shutil.which("g++") is None, reason="Inductor needs a C++ compiler")
SIZES = ["small", pytest.param("resnet50", marks=pytest.mark.release)]


@pytest.fixture(autouse=True)
def _forget_graphs():
    torch.compiler.reset()
    counters.clear()


@pytest.fixture(params=SIZES)
def size(request):
    return request.param


@pytest.fixture
def model(size):
    if size == "small":
        return build_small_model(backbone="resnet10", backbone_norm="frozen").eval()
    return build_published_model("r50_100", num_heads=8).eval()


@pytest.fixture
def detector(model):
    return EndToEndDetector(model, max_detections=10)


def make_targets(batch_size: int, count: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(count)
    corners = 40 * torch.rand(batch_size, count, 4, generator=generator)
    corners[..., 2:] += corners[..., :2] + 5
    labels = torch.randint(0, 3, (batch_size, count), generator=generator)
    valid = torch.rand(batch_size, count, generator=generator) < 0.7
    return corners, labels, valid, valid.sum().float()


def marked(images, sizes, boxes, labels, valid, num_targets) -> tuple[Tensor, ...]:
    leave_open(images, boxes, labels, valid)
    return images, sizes, boxes, labels, valid, num_targets


def num_compiled(module: nn.Module) -> int:
    """The number of graphs that the compiler keeps for a class of module."""
    return len(_debug_get_cache_entry_list(type(module).forward.__code__))


def assert_same_detections(found, expected, scores=1e-4, boxes=1e-2):
    torch.testing.assert_close(found[1], expected[1], rtol=0, atol=scores)
    torch.testing.assert_close(found[0], expected[0], rtol=0, atol=boxes)
    assert torch.equal(found[2], expected[2])


def gradients(step, arguments) -> dict[str, Tensor]:
    step.zero_grad()
    losses = step(*arguments).losses
    losses.total.backward()
    found = {name: p.grad.clone() for name, p in step.named_parameters() if p.grad is not None}
    return {"total": losses.total.detach(), **found}


def assert_same_gradients(found, expected, tolerance=1e-4):
    assert found.keys() == expected.keys()
    norm = torch.stack([gradient.norm() for gradient in expected.values()]).norm()
    for name, gradient in expected.items():
        # A gradient whose terms cancel to 0 has no relative error.
        scale = max(gradient.norm().item(), 1e-3 * norm.item())
        assert (found[name] - gradient).norm().item() <= tolerance * scale, name


# Inference.


@pytest.mark.slow
def test_model_then_selection_without_graph_breaks(model):
    images, sizes = random_batch(2, 64, 96)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    with torch.no_grad():
        found, expected = compiled(images, sizes), model(images, sizes)
    torch.testing.assert_close(found.logits, expected.logits, rtol=0, atol=1e-4)
    torch.testing.assert_close(found.boxes, expected.boxes, rtol=0, atol=1e-2)
    chosen = [select_detections(p.logits[-1], p.boxes[-1], sizes, 10) for p in (found, expected)]
    assert_same_detections(*chosen)
    explained = torch._dynamo.explain(model)(images, sizes)
    assert explained.graph_break_count == 0
    assert explained.graph_count == 1
    assert not counters["graph_break"]


@pytest.mark.slow
def test_sizes_and_batches_compile_twice_at_most():
    # For one image on a CPU, PyTorch chooses convolutions by C * H * W > 20480: with the paper's 256 channels
    # all are above it from 320 px on. And it assumes that sizes are always equal if the first ones are.
    sizes = [(320, 384), (384, 320), (352, 352), (320, 320), (384, 352), (352, 320), (320, 416)]
    model = build_small_model(backbone="resnet10", backbone_norm="frozen", num_stages=1, hidden_dim=256)
    detector = EndToEndDetector(model.eval(), max_detections=10)
    compiled = torch.compile(detector, fullgraph=True, dynamic=True, backend="eager")
    with torch.no_grad():
        for trial, (height, width) in enumerate(sizes):
            batch = random_batch(1 + trial % 2, height, width)
            found = compiled(*batch)
            if trial % 3 == 0:
                assert_same_detections(found, detector(*batch))
    # One image, and several: a dimension of 1 broadcasts, so it needs another graph.
    assert num_compiled(detector) == 2
    assert not counters["graph_break"]


@pytest.mark.slow
def test_batches_of_several_compile_once(detector):
    compiled = torch.compile(detector, fullgraph=True, dynamic=True, backend="aot_eager")
    with torch.no_grad():
        for sizes in [(4, 64, 96), (2, 64, 64), (3, 64, 96), (5, 320, 33), (2, 75, 133), (4, 160, 224)]:
            batch = random_batch(*sizes)
            assert_same_detections(compiled(*batch), detector(*batch))
    assert num_compiled(detector) == 1


@pytest.mark.slow
def test_images_of_all_sizes_in_any_order():
    """Single images below 320 px need a graph for each combination of PyTorch's convolutions."""
    generator = random.Random(3)
    model = build_small_model(backbone="resnet10", backbone_norm="frozen", num_stages=1, hidden_dim=64)
    detector = EndToEndDetector(model.eval(), max_detections=10)
    detect = compile_detector(detector, backend="eager")
    sizes = [(generator.randint(32, 448), generator.randint(32, 448)) for _ in range(24)]
    with torch.no_grad():
        for trial, (height, width) in enumerate([(64, 64), *sizes, (447, 448), (33, 32)]):
            batch = random_batch(generator.choice([1, 1, 1, 2, 5]), height, width)
            found = detect(*batch)
            if trial % 8 == 0:
                assert_same_detections(found, detector(*batch))
        detect(batch[0])  # without sizes: the whole image, and no other graph
    assert num_compiled(detector) <= 8
    assert not counters["graph_break"]


def num_compiled_for(first, second, mark=False) -> int:
    model = build_small_model(backbone="resnet10", backbone_norm="frozen", num_stages=1).eval()
    detector = EndToEndDetector(model)
    compiled = torch.compile(detector, fullgraph=True, dynamic=None if mark else True, backend="eager")
    with torch.no_grad():
        for size in (first, second):
            images, sizes = random_batch(*size)
            if mark:
                for tensor, dimension in ((images, 0), (images, 2), (images, 3), (sizes, 0)):
                    torch._dynamo.mark_dynamic(tensor, dimension)
            compiled(images, sizes)
    return num_compiled(detector)


@pytest.mark.release
def test_what_makes_a_graph_of_its_own():
    """The exceptions in docs/one_graph.md, all of PyTorch's making."""
    for first, second, graphs in [
        ((4, 64, 96), (5, 96, 64), 1),
        ((4, 64, 64), (4, 64, 96), 2),  # square at first
        ((2, 64, 96), (4, 64, 96), 2),  # as many as image_sizes has columns
        ((3, 64, 96), (4, 64, 96), 2),  # as many as an image has channels
        ((4, 64, 96), (16, 64, 96), 2),  # more than 15
        ((1, 64, 96), (1, 320, 480), 2),  # one small image
    ]:
        torch.compiler.reset()
        assert num_compiled_for(first, second) == graphs, (first, second)
    torch.compiler.reset()
    assert num_compiled_for((2, 64, 64), (3, 96, 64), mark=True) == 1


@pytest.mark.slow
def test_bfloat16_autocast_is_as_close_as_eager(detector):
    images, sizes = random_batch(2, 64, 96)
    compiled = torch.compile(detector.model, fullgraph=True, backend="aot_eager")
    with torch.no_grad():
        exact = detector.model(images, sizes)
        with torch.autocast("cpu", torch.bfloat16):
            eager, found = detector.model(images, sizes), compiled(images, sizes)
    assert found.boxes.dtype == torch.float32
    # Both round at different places. Neither may have the larger error.
    for mine, theirs, truth in zip(found, eager, exact, strict=True):
        error = (theirs.float() - truth).abs().mean().item()
        assert 0 < (mine.float() - truth).abs().mean().item() <= 2 * error


@NEEDS_COMPILER
@pytest.mark.slow
def test_inductor_runs_any_size(detector, size):
    if size == "small":  # stages repeat the first, and test_export.py has ResNet in Inductor
        model = build_small_model(backbone=ShortBackbone(), num_stages=1).eval()
        detector = EndToEndDetector(model, max_detections=10)
    compiled = torch.compile(detector, fullgraph=True, dynamic=True)
    with torch.no_grad():
        for batch in (random_batch(4, 64, 96), random_batch(2, 160, 64), random_batch(3, 96, 96)):
            assert_same_detections(compiled(*batch), detector(*batch))
    assert num_compiled(detector) == 1


@pytest.mark.skipif(not torch.cuda.is_available(), reason="CUDA graphs need a GPU")
@pytest.mark.parametrize("mode", ["reduce-overhead", "max-autotune"])
def test_modes_of_a_gpu(detector, mode, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    detector.cuda()
    images, sizes = (part.cuda() for part in random_batch(2, 64, 96))
    compiled = torch.compile(detector, fullgraph=True, mode=mode)
    with torch.no_grad():
        for _ in range(3):  # warm up, record, replay
            found = [part.clone() for part in compiled(images, sizes)]
        assert_same_detections(found, detector(images, sizes))


# Training.


@pytest.mark.slow
def test_training_step_is_one_graph_for_all_sizes_and_numbers_of_targets(model, size):
    generator = random.Random(1)
    if size == "resnet50":
        # Fifty layers of float32 roundings: a ReLU near 0 falls on either side, and gradients part by 1e-3.
        # In float64 the two agree to 2e-15, so the difference is rounding and no error of the graph.
        model.double()
    step = TrainingStep(model.train())
    compiled = torch.compile(step, fullgraph=True, backend="aot_eager")
    for trial in range(6):
        height, width = 32 * generator.randint(2, 8), 32 * generator.randint(2, 8)
        arguments = marked(*random_batch(2, height, width), *make_targets(2, generator.randint(2, 50)))
        found = gradients(compiled, arguments)
        if trial < 3:
            assert_same_gradients(
                found,
                {f"_orig_mod.{k}" if k != "total" else k: v for k, v in gradients(step, arguments).items()},
            )
    assert num_compiled(step) == 1
    assert not counters["graph_break"]


@pytest.mark.slow
def test_training_recipe_compiles_once():
    """All 11 scales of the recipe, each at another aspect ratio, one of them square and one at the limit."""
    step = TrainingStep(build_small_model(backbone="resnet10", hidden_dim=8, num_stages=1))
    compiled = torch.compile(step, fullgraph=True, backend="aot_eager")
    aspects = itertools.cycle([(480, 640), (640, 480), (427, 640), (500, 500), (640, 240)])
    for side, (height, width) in zip(TRAINING_SIZES, aspects, strict=False):
        height, width = (-(-x // 32) * 32 for x in shortest_side_resize(height, width, side, 1333))
        arguments = marked(*random_batch(2, height, width), *make_targets(2, 16))
        assert torch.isfinite(compiled(*arguments).losses.total)
    assert num_compiled(step) == 1


@pytest.mark.slow
def test_without_marks_sizes_compile_a_few_times():
    """If nothing is marked, PyTorch finds out step by step which sizes vary."""
    step = TrainingStep(build_small_model(backbone="resnet10", hidden_dim=8, num_stages=1))
    compiled = torch.compile(step, fullgraph=True, backend="eager")
    for height, width, count in [(64, 96, 16), (96, 96, 16), (96, 128, 32), (160, 64, 48), (64, 64, 16)]:
        compiled(*random_batch(2, height, width), *make_targets(2, count))
    assert 2 <= num_compiled(step) <= 4


@NEEDS_COMPILER
@pytest.mark.slow
def test_inductor_trains():
    step = TrainingStep(build_small_model(backbone=ShortBackbone(), num_stages=1))
    arguments = (*random_batch(2, 64, 96), *make_targets(2, 5))
    expected = gradients(step, arguments)
    step.compile(fullgraph=True)  # in place, which keeps the names
    assert_same_gradients(gradients(step, arguments), expected)
    assert not counters["graph_break"]


# TorchScript.

# Each file in a fork of a process that has not imported the package. If the file needs the operator, it is
# loaded again after the import.
SCRIPT = """
import os, sys, torch
torch.set_grad_enabled(False)
for name in sys.argv[1:]:
    if child := os.fork():
        assert os.waitpid(child, 0)[1] == 0, name
        continue
    try:
        module = torch.jit.load(name + ".pt")
    except RuntimeError as error:
        print(error)
        import sparse_rcnn
        module = torch.jit.load(name + ".pt")
    inputs, expected = torch.load(name + ".figures")
    found = module(*inputs)
    found = [found[0]["boxes"]] if isinstance(found, list) else found
    for mine, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-4)
    print(name, "is equal with" if "sparse_rcnn" in sys.modules else "is equal without")
    break
"""
NEEDED = "Unknown builtin op: sparse_rcnn::linear_sum_assignment"


@pytest.mark.slow
def test_scripted_files_hold_all_but_the_matching(detector, tmp_path):
    step = TrainingStep(build_small_model(backbone="resnet10"))
    arguments = (*random_batch(2, 64, 96), *make_targets(2, 5))
    lists = ImageListDetector(build_small_model(backbone="resnet10"), min_size=64, max_size=96).eval()
    scripted = {name: torch.jit.script(m) for name, m in (("one", detector), ("step", step), ("list", lists))}
    assert_same_gradients(gradients(scripted["step"], arguments), gradients(step, arguments))
    inputs = {"one": random_batch(3, 64, 128), "step": arguments, "list": ([torch.rand(3, 40, 60)],)}
    with torch.no_grad():
        results = {"one": detector(*inputs["one"]), "step": map(tuple, step(*arguments))}
        results["list"] = [found["boxes"] for found in lists(*inputs["list"])]
    for name, module in scripted.items():
        module.save(str(tmp_path / f"{name}.pt"))
        torch.save((inputs[name], tuple(results[name])), tmp_path / f"{name}.figures")
    said = run_python(SCRIPT, *scripted, cwd=tmp_path)
    # A training step needs the package and says so, and so does a detector that holds the loss.
    needs = re.findall(r"^(\w+) is equal (\w+)$", said, re.MULTILINE)
    assert needs == [("one", "without"), ("step", "with"), ("list", "with")]
    assert said.count(NEEDED) == 2


@NEEDS_COMPILER
@pytest.mark.release
def test_inductor_trains_all_sizes_with_one_graph():
    step = TrainingStep(build_small_model(backbone="resnet10", backbone_norm="frozen", num_stages=1))
    step.to(memory_format=torch.channels_last)
    eager = copy.deepcopy(step)
    compile_step(step)
    for height, width, count in [(64, 96, 5), (96, 64, 9), (64, 160, 2), (96, 96, 3)]:
        arguments = marked(*random_batch(2, height, width), *make_targets(2, count))
        assert_same_gradients(gradients(step, arguments), gradients(eager, arguments))
    assert num_compiled(step) == 1


@pytest.mark.slow
@pytest.mark.parametrize("backbone", ["resnet18", "mobilenet_v2"])
@pytest.mark.parametrize("norm", ["frozen", "batch", "group"])
def test_every_backbone_scripts(backbone, norm):
    model = build_small_model(backbone=backbone, backbone_norm=norm).eval()
    scripted = torch.jit.script(model)
    with torch.no_grad():
        for images, sizes in (random_batch(2, 64, 96), random_batch(1, 70, 45), random_batch(1, 32, 32)):
            torch.testing.assert_close(scripted(images, sizes), model(images, sizes), rtol=1e-4, atol=2e-3)
            floating = images / 255
            torch.testing.assert_close(
                scripted(floating, sizes), model(floating, sizes), rtol=1e-4, atol=2e-3
            )


# Exported programs; examples/export.py's files are tested in tests/examples/test_export.py.


@pytest.mark.slow
@pytest.mark.parametrize("strict", [False, True])
def test_export_takes_sizes_that_it_never_saw(detector, strict):
    batch = torch.export.Dim("batch", min=1)
    height, width = torch.export.Dim("height", min=33), torch.export.Dim("width", min=33)
    program = torch.export.export(
        detector,
        random_batch(2, 64, 96),
        dynamic_shapes={"images": {0: batch, 2: height, 3: width}, "image_sizes": {0: batch}},
        strict=strict,
    )
    module = program.module()
    with torch.no_grad():
        for sizes in [(1, 64, 64), (3, 33, 130), (2, 75, 133), (5, 96, 64)]:
            inputs = random_batch(*sizes)
            assert_same_detections(module(*inputs), detector(*inputs))


@pytest.mark.slow
@pytest.mark.parametrize("backbone", ["resnet18", "mobilenet_v2"])
@pytest.mark.parametrize("norm", ["frozen", "batch", "group"])
def test_every_backbone_exports(backbone, norm):
    model = build_small_model(backbone=backbone, backbone_norm=norm).eval()
    inputs = random_batch(2, 64, 96)
    with torch.no_grad():
        found = torch.export.export(model, inputs, strict=False).module()(*inputs)
        torch.testing.assert_close(tuple(found), tuple(model(*inputs)), rtol=1e-4, atol=2e-3)
