"""Counts the kernels of a call on a GPU and its memory for the backward pass, on fake tensors.

Every operator that makes or changes values counts as one kernel. Some launch a few (embedding_bag, sums of
large tensors), so the counts are for comparison: of a change with what was before.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

# Allocations, and operators that only look at a tensor. Views are recognised by their schema.
NO_KERNELS = {
    *("empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "lift_fresh", "set_"),
    *("_unsafe_view", "_reshape_alias", "_record_function_enter_new", "_record_function_exit"),
}


class KernelCounts(TorchDispatchMode):
    """Counts, while entered, the operators that launch something."""

    def __init__(self) -> None:
        super().__init__()
        self.by_name: Counter[str] = Counter()

    @property
    def total(self) -> int:
        """All of them."""
        return self.by_name.total()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if func.namespace != "prim" and not func.is_view and name not in NO_KERNELS:
            self.by_name[name] += 1
        return func(*args, **(kwargs or {}))


def count_kernels(call: Callable[[], Any]) -> KernelCounts:
    """The kernels of one call. Its inputs must be fake tensors of the mode that is entered."""
    with KernelCounts() as counts:
        call()
    return counts


@contextmanager
def cuda_autocast() -> Iterator[None]:
    """`torch.autocast("cuda", torch.bfloat16)` without a GPU. PyTorch would switch it off."""
    torch.set_autocast_dtype("cuda", torch.bfloat16)
    torch.set_autocast_enabled("cuda", True)
    torch.autocast_increment_nesting()
    try:
        yield
    finally:
        torch.set_autocast_enabled("cuda", False)
        if torch.autocast_decrement_nesting() == 0:
            torch.clear_autocast_cache()


class SavedTensors:
    """While entered, counts the tensors kept for the backward pass, each storage once."""

    def __init__(self) -> None:
        self.tensors: dict[Any, Tensor] = {}
        self._hooks = torch.autograd.graph.saved_tensors_hooks(self._note, lambda tensor: tensor)

    def _note(self, tensor: Tensor) -> Tensor:
        self.tensors.setdefault(tensor.untyped_storage()._cdata, tensor)
        return tensor

    def __enter__(self) -> "SavedTensors":
        self._hooks.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._hooks.__exit__(*error)
