"""Number formats and CUDA graphs of a row."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch

from parts.measuring import Machine, Run
from sparse_rcnn.inference import compile_for_inference

AS_PUBLISHED = "as published"  # PyTorch's own defaults: TF32 in convolutions, float32 in products


def stages_on(machine: Machine) -> int:
    """The number of stages. In a tiny table, building a model takes most of the time, so it has one."""
    return 1 if machine.tiny else 6


@contextlib.contextmanager
def number_formats(precision: str) -> Iterator[None]:
    """Sets TF32 for a precision: as published, float32, tf32 or bf16. After it, TF32 is off."""
    torch.backends.cudnn.allow_tf32 = precision in (AS_PUBLISHED, "tf32")
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = False
        torch.set_float32_matmul_precision("highest")


def autocast(precision: str, device: torch.device, cached: bool = True) -> torch.autocast:
    """Autocast for the forward pass. `cached`: a weight is cast once."""
    enabled = precision == "bf16"
    return torch.autocast(device.type, torch.bfloat16, enabled=enabled, cache_enabled=cached)


def for_inference(call: Run, precision: str, device: torch.device) -> Run:
    """The call in a precision, without gradients."""

    def run() -> Any:
        with torch.no_grad(), number_formats(precision), autocast(precision, device):
            return call()

    return run


def compiled(call: Callable[..., Any], machine: Machine) -> Callable[..., Any]:
    """The call compiled for the size of its first inputs, as CUDA graphs. If tiny, it is only traced."""
    if machine.tiny:
        traced: Callable[..., Any] = torch.compile(call, fullgraph=True, dynamic=False, backend="eager")
        return traced
    return compile_for_inference(call, machine.device, dynamic=False)


def as_cuda_graph(call: Run, device: torch.device) -> Run:
    """The call as a CUDA graph: its kernels are recorded, and later started together.

    Each replay reads and writes the same memory. On a CPU, the result is the call itself.
    """
    if device.type != "cuda":
        return call
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):  # libraries choose kernels and memory before the recording
            call()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = call()

    def replay() -> Any:
        graph.replay()
        return result

    return replay
