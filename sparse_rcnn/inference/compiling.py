"""`torch.compile` for inference. On a CPU, weights become constants, which is faster."""

import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from sparse_rcnn.nn import compile_detector

__all__ = ["compile_for_inference"]

_settings = threading.RLock()  # the settings below apply to the whole process


def compile_for_inference(
    call: Callable[..., Any], device: torch.device, dynamic: bool
) -> Callable[..., Any]:
    """Compiles a model, or a function of a model, to one graph. The first call takes minutes.

    On a CPU, weights become constants of the graph. oneDNN folds and packs them. Do not change them
    afterwards. Each graph has its own copy: one graph is for batches, another for single images. Call it
    without gradients. Calls from several threads wait for each other.

    Args:
        call: The model or the function.
        device: The device of its weights.
        dynamic: True: for images of any size, by `compile_detector`, and without CUDA graphs on a GPU. False:
            for inputs of the size of the first call.

    Returns:
        A function with the same results.

    Example:
        >>> detect = compile_for_inference(model, torch.device("cpu"), dynamic=True)  # doctest: +SKIP
    """
    compiler: Callable[..., Any] = partial(torch.compile, fullgraph=True, dynamic=False)
    if dynamic:
        compiler = compile_detector
    if device.type != "cpu":
        on_device: Callable[..., Any] = compiler(call, options={"triton.cudagraphs": not dynamic})
        return on_device
    compiled = compiler(call, backend=_packed)

    def run(*inputs: Any, **named: Any) -> Any:
        # As an option of torch.compile it comes too late: the weights are inputs already (PyTorch 2.14).
        with _settings, torch._inductor.config.patch(freezing=True):
            return compiled(*inputs, **named)

    return run


def _packed(graph: torch.fx.GraphModule, inputs: list[Any]) -> Any:
    """Inductor with oneDNN's packed products. Those of MKL are slower.

    Inductor takes them only if products may be in TF32. So TF32 is allowed while the graph is compiled. When
    the graph runs, it is not allowed, and oneDNN computes in float32.
    """
    from torch._inductor.compile_fx import compile_fx  # this import takes seconds

    products: Any = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    precision = products.fp32_precision
    products.fp32_precision = "tf32"
    try:
        return compile_fx(graph, inputs)
    finally:
        products.fp32_precision = precision
