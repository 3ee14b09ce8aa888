"""Checks of arguments. Public functions call them first, and the error names the wrong argument.

Tensors are checked in eager PyTorch only: a compiled, scripted or exported graph has no checks and no cost.
Plain numbers are checked everywhere.
"""

import numbers
import operator
from typing import Any

import torch
from torch import Tensor

__all__ = [
    "REAL_TYPES",
    "readable",
    "require_boxes",
    "require_broadcast",
    "require_count",
    "require_dtype",
    "require_flags",
    "require_floating",
    "require_integers",
    "require_list",
    "require_number",
    "require_real",
    "require_shape",
    "require_sizes",
    "whole_number",
]

REAL_TYPES = (
    *(torch.float32, torch.float64, torch.float16, torch.bfloat16),
    *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8),
)


def readable(*tensors: Tensor) -> bool:
    """Whether the values can be read without breaking a graph and without waiting for a device.

    Under `torch.vmap` and `FakeTensorMode` the result is False: their tensors have no values to read.
    """
    if torch.compiler.is_compiling() or torch.jit.is_tracing():
        return False
    if any(tensor.device.type != "cpu" for tensor in tensors):
        return False
    try:
        return not any(bool(tensor.new_zeros((), dtype=torch.bool)) for tensor in tensors)
    except RuntimeError:
        return False


def require_number(name: str, value: float, low: float = 0.0, high: float = 1e6) -> None:
    """Raises ValueError unless `value` is a number in `low..high`."""
    if not torch.jit.is_scripting():
        _require_type(name, value, numbers.Real, "a number")
    if not (value >= low and value <= high):  # NaN fails, too
        raise ValueError(f"{name} must be in {low}..{high}, got {value}")


def require_count(name: str, value: int, low: int = 1, high: int = 2**31) -> None:
    """Raises ValueError unless `value` is a whole number in `low..high`."""
    if not torch.jit.is_scripting():
        _require_type(name, value, numbers.Integral, "a whole number")
    if value < low:
        raise ValueError(f"{name} must be at least {low}, got {value}")
    if value > high:
        raise ValueError(f"{name} must be at most {high}, got {value}")


def whole_number(name: str, value: Any, low: int = 1, high: int = 2**63) -> int:
    """The value as an `int`. NumPy's integers and tensors of one integer are whole numbers, too.

    TorchScript cannot call it.

    Raises:
        ValueError: If it is no whole number in `low..high`.
    """
    try:
        number = operator.index(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{name} must be a whole number, got {value!r}") from error
    if isinstance(value, bool) or (isinstance(value, Tensor) and value.dtype == torch.bool):
        raise ValueError(f"{name} must be a whole number, got {value!r}")
    require_count(name, number, low, high)
    return number


def require_list(name: str, value: object, length: int | None = None) -> None:
    """Raises ValueError unless `value` is a list or tuple of that length. TorchScript cannot call it."""
    if not isinstance(value, (list, tuple)):
        raise ValueError(f"{name} must be a list, got {type(value).__name__}")
    if length is not None and len(value) != length:
        raise ValueError(f"{name} must have {length} entries, got {len(value)}")


def require_real(name: str, x: Tensor) -> None:
    """Raises ValueError unless `x` is a tensor of real numbers."""
    if not torch.jit.is_scripting():
        _require_real(name, x)


def require_floating(name: str, x: Tensor) -> None:
    """Raises ValueError unless `x` is a floating-point tensor."""
    if not torch.jit.is_scripting():
        _require_real(name, x)
        if not x.is_floating_point():
            raise ValueError(f"{name} must be floating point, got {x.dtype}")


def require_shape(name: str, x: Tensor, shape: list[int]) -> None:
    """Raises ValueError unless `x` is a floating-point tensor of that shape."""
    require_floating(name, x)
    if list(x.shape) != shape:
        raise ValueError(f"{name} must be {shape}, got {list(x.shape)}")


def require_dtype(name: str, x: Tensor, like: Tensor) -> None:
    """Raises ValueError unless `x` has the type of `like`. Under autocast, types may differ."""
    if not torch.jit.is_scripting():
        _require_dtype(name, x, like)


def require_boxes(name: str, boxes: Tensor, layout: str = "XYXY") -> None:
    """Raises ValueError unless `boxes` is `[..., 4]` of real numbers. torchvision's must have that layout."""
    if not torch.jit.is_scripting():
        _require_boxes(name, boxes, layout)


def require_sizes(name: str, sizes: Tensor) -> None:
    """Raises ValueError unless `sizes` is `[..., 2]` (height, width), finite and at least 1."""
    if not torch.jit.is_scripting():
        _require_sizes(name, sizes)


def require_integers(name: str, x: Tensor) -> None:
    """Raises ValueError unless `x` is a tensor of integers, such as labels."""
    if not torch.jit.is_scripting():
        _require_real(name, x)
        if x.is_floating_point():
            raise ValueError(f"{name} must be integers (int64), got {x.dtype}: give {name}.long()")


def require_flags(name: str, x: Tensor) -> None:
    """Raises ValueError unless `x` is a bool tensor."""
    if not torch.jit.is_scripting():
        _require_type(name, x, Tensor, "a tensor")
        if x.dtype != torch.bool:
            raise ValueError(f"{name} must be bool, got {x.dtype}: give {name}.bool()")


def require_broadcast(name: str, x: Tensor, other_name: str, other: Tensor) -> None:
    """Raises ValueError unless the shapes of both tensors broadcast."""
    if not torch.jit.is_scripting():
        _require_broadcast(name, x, other_name, other)


def _require_type(name: str, value: object, kind: type, what: str) -> None:
    if torch.compiler.is_compiling():  # numbers have the compiler's own types there
        return
    if not isinstance(value, kind) or isinstance(value, bool):
        raise ValueError(f"{name} must be {what}, got {type(value).__name__}")


def _require_real(name: str, x: Tensor) -> None:
    _require_type(name, x, Tensor, "a tensor")
    if x.dtype not in REAL_TYPES:
        raise ValueError(f"{name} must be real numbers (floating point or int64), got {x.dtype}")


def _require_boxes(name: str, boxes: Tensor, layout: str) -> None:
    _require_real(name, boxes)
    if torch.compiler.is_compiling():
        return
    if boxes.dim() == 0 or boxes.shape[-1] != 4:
        raise ValueError(f"{name} must be [..., 4], got {boxes.shape}")
    own = getattr(boxes, "format", None)  # torchvision.tv_tensors.BoundingBoxes has one
    if own is not None and own.value != layout:
        raise ValueError(
            f"{name} must be {layout}, got {own.value}: give "
            f'torchvision.transforms.v2.functional.convert_bounding_box_format({name}, new_format="{layout}")'
        )


def _require_sizes(name: str, sizes: Tensor) -> None:
    _require_real(name, sizes)
    if torch.compiler.is_compiling():
        return
    if sizes.dim() == 0 or sizes.shape[-1] != 2:
        raise ValueError(f"{name} must be [..., 2] (height, width), got {sizes.shape}")
    if readable(sizes):
        wrong = sizes[~((sizes >= 1) & (sizes < float("inf"))).all(dim=-1)]
        if wrong.numel() > 0:
            raise ValueError(f"{name} must be (height, width) of at least 1 px, got {wrong[0].tolist()}")


def _require_broadcast(name: str, x: Tensor, other_name: str, other: Tensor) -> None:
    if torch.compiler.is_compiling():
        return
    # Not torch.broadcast_shapes, which imports PyTorch's compiler: half a second.
    pairs = zip(x.shape[::-1], other.shape[::-1], strict=False)
    if not all(a == b or a == 1 or b == 1 for a, b in pairs):
        raise ValueError(
            f"{name} and {other_name} must have shapes that broadcast, got {x.shape} and {other.shape}"
        )


def _require_dtype(name: str, x: Tensor, like: Tensor) -> None:
    if torch.compiler.is_compiling():
        return
    device = x.device.type
    if device != "meta" and torch.is_autocast_enabled(device):  # PyTorch has no autocast on meta
        return
    if x.dtype != like.dtype:
        raise ValueError(f"{name} must be {like.dtype} as the other tensors, got {x.dtype}")
