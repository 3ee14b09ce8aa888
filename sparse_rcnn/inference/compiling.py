"""torch.compile for inference, with weights as constants if that is faster."""

import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from sparse_rcnn.nn import compile_detector

__all__ = ["compile_for_inference"]

_settings = threading.RLock()  # the settings below hold for the whole process


def compile_for_inference(
    call: Callable[..., Any], device: torch.device, dynamic: bool
) -> Callable[..., Any]:
    """`call`, a model or a function of one, as one graph; the first call compiles, which takes minutes.

    On a CPU weights become constants of the graph, folded and packed by oneDNN, a copy for each graph (one
    for batches of several images, another for single ones): they must not change any more. Calls must be
    without gradients, and of several threads they take turns.

    Args:
        call: what to compile.
        device: where its weights are.
        dynamic: for images of any size (``compile_detector``), and not for inputs of the first call's size
            only; on a GPU, without CUDA graphs.

    Returns:
        The compiled call, which has the same results.
    """
    compiler: Callable[..., Any] = partial(torch.compile, fullgraph=True, dynamic=False)
    if dynamic:
        compiler = compile_detector
    if device.type != "cpu":
        on_device: Callable[..., Any] = compiler(call, options={"triton.cudagraphs": not dynamic})
        return on_device
    compiled = compiler(call, backend=_packed)

    def run(*inputs: Any, **named: Any) -> Any:
        # Not an option of torch.compile: weights become inputs before it is read (PyTorch 2.14).
        with _settings, torch._inductor.config.patch(freezing=True):
            return compiled(*inputs, **named)

    return run


def _packed(graph: torch.fx.GraphModule, inputs: list[Any]) -> Any:
    """Inductor with oneDNN's packed products in place of MKL's, which are slower.

    It takes them if products may be in TF32. That is said while it compiles only: when the graph runs, oneDNN
    asks again, and computes in float32.
    """
    from torch._inductor.compile_fx import compile_fx  # seconds: only for those who compile

    products: Any = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    precision = products.fp32_precision
    products.fp32_precision = "tf32"
    try:
        return compile_fx(graph, inputs)
    finally:
        products.fp32_precision = precision
