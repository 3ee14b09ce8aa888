"""torch.compile for inference, with weights as constants where that pays."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch


def compile_for_inference(
    call: Callable[..., Any], device: torch.device, dynamic: bool, **options: Any
) -> Callable[..., Any]:
    """``call``, a model or a function of one, as one graph; the first call compiles, which takes minutes.

    On a CPU weights become constants of the graph: folded, and packed by oneDNN. They must not change any
    more, nor must gradients be asked for.

    Args:
        call: what to compile.
        device: where its weights are.
        dynamic: for inputs of any size, and not of the first call's only.
        options: of Inductor.

    Returns:
        The compiled call, which has the same results.
    """
    compiled = torch.compile(call, fullgraph=True, dynamic=dynamic, options=options or None)
    if device.type != "cpu":
        return compiled
    is_compiled = False

    def run(*inputs: Any) -> Any:
        nonlocal is_compiled
        if is_compiled:
            return compiled(*inputs)
        with weights_as_constants():
            result = compiled(*inputs)
        is_compiled = True
        return result

    return run


@contextmanager
def weights_as_constants() -> Iterator[None]:
    """What is compiled in here without gradients has weights as constants, packed by oneDNN.

    An option of torch.compile does not do it: weights become inputs before it is read (PyTorch 2.14). And
    without the precision, Inductor takes MKL's packed products, which are slower; compiled code asks for the
    precision again whenever it runs, so that only what runs in here could be less precise than float32, and
    only on a processor that has TF32.
    """
    products: Any = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    precision = products.fp32_precision
    products.fp32_precision = "tf32"
    try:
        with torch._inductor.config.patch(freezing=True):
            yield
    finally:
        products.fp32_precision = precision
