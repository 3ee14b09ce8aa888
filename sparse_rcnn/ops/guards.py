"""Guards: a wrong argument of a public function is named before any arithmetic.

Types, shapes and values of tensors are looked at in eager PyTorch only: inside of a compiled, scripted or
exported graph they cost nothing. Plain numbers are looked at everywhere.
"""

import numbers

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
]

REAL_TYPES = (
    *(torch.float32, torch.float64, torch.float16, torch.bfloat16),
    *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8),
)


def readable(*tensors: Tensor) -> bool:
    """Whether values can be looked at without breaking a graph or waiting for a device.

    Not where a tensor has no value of its own, either: under `torch.vmap` and `FakeTensorMode`, which
    refuse to make a Python bool of one.
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
    """Refuses what is no number, NaN, and what is outside of `low..high`."""
    if not torch.jit.is_scripting():
        _require_type(name, value, numbers.Real, "a number")
    if not (value >= low and value <= high):  # so that NaN is refused
        raise ValueError(f"{name} must be in {low}..{high}, got {value}")


def require_count(name: str, value: int, low: int = 1, high: int = 2**31) -> None:
    """Refuses what is no whole number, and what is outside of `low..high`."""
    if not torch.jit.is_scripting():
        _require_type(name, value, numbers.Integral, "a whole number")
    if value < low:
        raise ValueError(f"{name} must be at least {low}, got {value}")
    if value > high:
        raise ValueError(f"{name} must be at most {high}, got {value}")


def require_list(name: str, value: object, length: int | None = None) -> None:
    """Refuses what is no list or tuple, or one of another length. Not for scripts."""
    if not isinstance(value, (list, tuple)):
        raise ValueError(f"{name} must be a list, got {type(value).__name__}")
    if length is not None and len(value) != length:
        raise ValueError(f"{name} must have {length} entries, got {len(value)}")


def require_real(name: str, x: Tensor) -> None:
    """Refuses what is no tensor of real numbers."""
    if not torch.jit.is_scripting():
        _require_real(name, x)


def require_floating(name: str, x: Tensor) -> None:
    """Refuses what is no tensor of floating point."""
    if not torch.jit.is_scripting():
        _require_real(name, x)
        if not x.is_floating_point():
            raise ValueError(f"{name} must be of floating point, got {x.dtype}")


def require_shape(name: str, x: Tensor, shape: list[int]) -> None:
    """Refuses what is no tensor of floating point and of a given shape."""
    require_floating(name, x)
    if list(x.shape) != shape:
        raise ValueError(f"{name} must be {shape}, got {list(x.shape)}")


def require_dtype(name: str, x: Tensor, like: Tensor) -> None:
    """Refuses a type that differs from another tensor's, unless autocast makes them one."""
    if not torch.jit.is_scripting():
        _require_dtype(name, x, like)


def require_boxes(name: str, boxes: Tensor, layout: str = "XYXY") -> None:
    """Refuses what is no `[..., 4]` of real numbers, and torchvision's boxes of another layout."""
    if not torch.jit.is_scripting():
        _require_boxes(name, boxes, layout)


def require_sizes(name: str, sizes: Tensor) -> None:
    """Refuses what is no `[..., 2]` (height, width), and sizes below 1 or not finite."""
    if not torch.jit.is_scripting():
        _require_sizes(name, sizes)


def require_integers(name: str, x: Tensor) -> None:
    """Refuses what is no tensor of integers, such as labels."""
    if not torch.jit.is_scripting():
        _require_real(name, x)
        if x.is_floating_point():
            raise ValueError(f"{name} must be integers (int64), got {x.dtype}: give {name}.long()")


def require_flags(name: str, x: Tensor) -> None:
    """Refuses what is no tensor of bool."""
    if not torch.jit.is_scripting():
        _require_type(name, x, Tensor, "a tensor")
        if x.dtype != torch.bool:
            raise ValueError(f"{name} must be bool, got {x.dtype}: give {name}.bool()")


def require_broadcast(name: str, x: Tensor, other_name: str, other: Tensor) -> None:
    """Refuses two tensors of shapes that do not broadcast."""
    if not torch.jit.is_scripting():
        _require_broadcast(name, x, other_name, other)


def _require_type(name: str, value: object, kind: type, what: str) -> None:
    if torch.compiler.is_compiling():  # the compiler's own numbers
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
    own = getattr(boxes, "format", None)  # of torchvision.tv_tensors.BoundingBoxes
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
    try:
        torch.broadcast_shapes(x.shape, other.shape)
    except RuntimeError as error:
        raise ValueError(
            f"{name} and {other_name} must have shapes that broadcast, got {x.shape} and {other.shape}"
        ) from error


def _require_dtype(name: str, x: Tensor, like: Tensor) -> None:
    if torch.compiler.is_compiling() or torch.is_autocast_enabled(x.device.type):
        return
    if x.dtype != like.dtype:
        raise ValueError(f"{name} must be {like.dtype} as the other tensors, got {x.dtype}")
