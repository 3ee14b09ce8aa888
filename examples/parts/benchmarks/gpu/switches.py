"""What a row sets before it runs: number formats, and CUDA graphs."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch

from parts.measuring import Machine, Run
from sparse_rcnn.inference import compile_for_inference

AS_PUBLISHED = "as published"  # PyTorch's own defaults: TF32 in convolutions, float32 in products
PRECISIONS = (AS_PUBLISHED, "float32", "tf32", "bf16")


def stages_on(machine: Machine) -> int:
    """Of a model: what it takes to build one is most of what a tiny table takes."""
    return 1 if machine.tiny else 6


@contextlib.contextmanager
def number_formats(precision: str) -> Iterator[None]:
    """TF32 as one of `PRECISIONS` has it; afterwards everything in full float32."""
    torch.backends.cudnn.allow_tf32 = precision in (AS_PUBLISHED, "tf32")
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = False
        torch.set_float32_matmul_precision("highest")


def autocast(precision: str, device: torch.device, cached: bool = True) -> torch.autocast:
    """Of the forward pass; `cached`: a weight is cast once."""
    enabled = precision == "bf16"
    return torch.autocast(device.type, torch.bfloat16, enabled=enabled, cache_enabled=cached)


def for_inference(call: Run, precision: str, device: torch.device) -> Run:
    """The call without gradients, in a precision."""

    def run() -> Any:
        with torch.no_grad(), number_formats(precision), autocast(precision, device):
            return call()

    return run


def compiled(call: Callable[..., Any], machine: Machine) -> Callable[..., Any]:
    """The call for the size of its first inputs, as CUDA graphs; tiny, only what PyTorch traces."""
    if machine.tiny:
        traced: Callable[..., Any] = torch.compile(call, fullgraph=True, dynamic=False, backend="eager")
        return traced
    return compile_for_inference(call, machine.device, dynamic=False)


def as_cuda_graph(call: Run, device: torch.device) -> Run:
    """The kernels of one call, recorded and started at once; the same memory is read and written each time.

    On a CPU, the call itself.
    """
    if device.type != "cuda":
        return call
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):  # libraries choose their kernels and memory before, not while it records
            call()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = call()

    def replay() -> Any:
        graph.replay()
        return result

    return replay
