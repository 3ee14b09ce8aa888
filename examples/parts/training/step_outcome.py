"""The outcome of a step, from two sums over all processes: so all of them decide the same."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from parts.training.processes import Processes
from parts.training.readable_samples import is_gone
from sparse_rcnn.data import Batch


class Outcome(NamedTuple):
    """The outcome of a step, the same on all processes.

    Attributes:
        losses: The losses of the whole step, in the order of `loss_vector`.
        gradient_norm: The norm of the gradient before clipping.
        is_stopped: Whether a process was asked to stop.
        is_overdue: Whether the last checkpoint is too old.
        num_unreadable: The number of images that could not be read.
        is_gone: Whether a process can read no image any more.
    """

    losses: list[float]
    gradient_norm: float
    is_stopped: bool
    is_overdue: bool
    num_unreadable: int
    is_gone: bool

    @property
    def losses_are_finite(self) -> bool:
        """Whether all losses and the gradient norm are finite."""
        return all(map(math.isfinite, self.losses))

    @property
    def is_finite(self) -> bool:
        """Whether the step may change the weights."""
        return self.losses_are_finite and math.isfinite(self.gradient_norm)


class StepSums:
    """The two sums of a step, one before its forward pass and one after its backward pass."""

    def __init__(self, processes: Processes) -> None:
        self.processes = processes
        self._flags = torch.zeros(4)

    def before_forward(
        self, parts: list[Batch], problems: list[str], is_stopped: bool, is_overdue: bool
    ) -> Tensor:
        """The number of targets of the whole step: the same as on one device with all images.

        The flags of this process are sent with it. Their sums are in the result of `after_backward`.
        """
        flags = torch.tensor([is_stopped, is_overdue, len(problems), is_gone(problems)], dtype=torch.float32)
        if self.processes.device.type == "cuda":
            # Otherwise the host waits for the device.
            flags = flags.pin_memory().to(self.processes.device, non_blocking=True)
        own_targets = torch.stack([batch.targets.valid.sum() for batch in parts]).sum()
        num_targets, *told = self.processes.sum(torch.cat([own_targets.float()[None], flags])).unbind()
        self._flags = torch.stack(told)
        return num_targets

    def after_backward(self, own_losses: Tensor, gradient_norm: Tensor) -> Outcome:
        """The outcome of the step. The host waits for the device only here and in the matching."""
        losses = self.processes.sum(own_losses.clone())
        *values, norm, stopped, overdue, unreadable, gone = torch.cat(
            [losses, gradient_norm[None], self._flags]
        ).tolist()
        return Outcome(values, norm, bool(stopped), bool(overdue), int(unreadable), bool(gone))
