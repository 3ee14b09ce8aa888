"""Models without first weights, for those that get all of them from a checkpoint."""

from collections.abc import Callable
from typing import Any

from torch.overrides import TorchFunctionMode

__all__ = ["Undrawn"]


class Undrawn(TorchFunctionMode):
    """While it is entered, no random numbers are drawn. A model that is built has weights of any values.

    Drawing the weights of a ResNet-50 with 6 stages takes a second. On the device "meta", where there is
    nothing to draw, it makes PyTorch import its compiler, which takes two.

    Example:
        >>> with Undrawn():
        ...     layer = torch.nn.Linear(1000, 1000)
    """

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Calls all functions except those that draw."""
        if getattr(function, "__name__", "").endswith(("normal_", "uniform_")):  # of tensors and of nn.init
            return args[0] if args else (kwargs or {})["tensor"]
        return function(*args, **(kwargs or {}))
