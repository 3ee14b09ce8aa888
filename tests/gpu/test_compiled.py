"""Compiled as one graph, and as CUDA graphs: the results are those of eager."""

import pytest
import torch
from parts.training.training_step import compile_step
from small_model import build_small_model, random_batch
from torch._dynamo.utils import counters
from training_batch import gradients_of, largest_difference, small_step, training_batch

from sparse_rcnn.nn import EndToEndDetector, fold_first_stage, fold_norms

pytestmark = pytest.mark.usefixtures("_forget_graphs")


@pytest.fixture
def detector(device):
    model = build_small_model(backbone="resnet10", backbone_norm="frozen").eval()
    folded = fold_first_stage(fold_norms(model)).to(memory_format=torch.channels_last)
    return EndToEndDetector(folded, 10).to(device).requires_grad_(False)


@pytest.fixture
def batches(device):
    """Two of one size."""
    images, sizes = random_batch(2, 64, 96)
    return [(images.to(device), sizes.to(device)), (images.flip(3).to(device), sizes.to(device))]


def assert_same_detections(found, expected):
    torch.testing.assert_close(found[1], expected[1], rtol=0, atol=1e-4)
    torch.testing.assert_close(found[0], expected[0], rtol=0, atol=1e-2)
    assert torch.equal(found[2], expected[2])


def backend_of(device):
    """On a CPU, this traces only. tests/nn/test_one_graph.py tests the rest."""
    return "inductor" if device.type == "cuda" else "eager"


@pytest.mark.slow
def test_inference(detector, batches, device):
    compiled = torch.compile(detector, fullgraph=True, backend=backend_of(device))
    with torch.no_grad():
        for batch in batches:
            assert_same_detections(compiled(*batch), detector(*batch))
    assert not counters["graph_break"]


def test_cuda_graphs_of_the_compiler(detector, batches, gpu):
    compiled = torch.compile(detector, fullgraph=True, mode="reduce-overhead")
    with torch.no_grad():
        for batch in batches * 3:  # warms up, records, replays
            found = [part.clone() for part in compiled(*batch)]
            assert_same_detections(found, detector(*batch))
    assert not counters["inductor"]["cudagraph_skips"], counters["inductor"]


def test_own_capture_of_eager_inference(detector, batches, gpu):
    images, sizes = (part.clone() for part in batches[0])
    with torch.no_grad():
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                detector(images, sizes)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            found = detector(images, sizes)
        for batch in (batches[1], batches[0]):
            images.copy_(batch[0])
            sizes.copy_(batch[1])
            graph.replay()
            torch.cuda.synchronize()
            assert_same_detections(found, detector(*batch))


def test_graphed_callables_train(gpu):
    """Forward and backward pass of the model as CUDA graphs. The loss between them waits for the host."""
    batch = training_batch(gpu)
    expected = gradients_of(small_step(gpu), batch)
    step = small_step(gpu)
    torch.cuda.make_graphed_callables(step.model, batch[:2], allow_unused_input=True)  # in place
    for _ in range(2):
        assert largest_difference(gradients_of(step, batch), expected) <= 1e-3


@pytest.mark.slow
def test_training_step(device):
    eager, compiled = small_step(device), small_step(device)
    for step in (eager, compiled):
        step.to(memory_format=torch.channels_last)
    compile_step(compiled, backend_of(device))
    batch = training_batch(device)
    assert largest_difference(gradients_of(compiled, batch), gradients_of(eager, batch)) <= 1e-3
