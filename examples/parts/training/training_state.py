"""The state of training: weights, their average, optimiser, schedule, scaler."""

import argparse
import math
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from parts.training.bad_batches import RunningStatistics
from sparse_rcnn import SparseRCNN

Tensors = tuple[Tensor, ...] | list[Tensor]


class TrainingState:
    """The model, its optimiser, schedule and scaler.

    Args:
        model: The model, on its device.
        arguments: The options.
        device: The device of the model.
    """

    def __init__(self, model: SparseRCNN, arguments: argparse.Namespace, device: torch.device) -> None:
        self.model = model
        self.average = None
        if arguments.ema:
            self.average = AveragedModel(model, device)
            # The host reads this counter. On the CPU, it does not wait for the device.
            self.average.n_averaged = self.average.n_averaged.cpu()
            self.average.multi_avg_fn = average_with(arguments.ema, self.average.n_averaged)
        self.clip_norm = arguments.clip_norm
        self.parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.AdamW(
            parameter_groups(model, arguments.learning_rate, arguments.backbone_multiplier),
            weight_decay=arguments.weight_decay,
            fused=True,
        )
        self.schedule = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer, lambda iteration: learning_rate_factor(arguments, iteration)
        )
        self.scaler = torch.amp.GradScaler(device.type, enabled=arguments.precision == "fp16")
        self.statistics = RunningStatistics(model)

    @property
    def evaluated(self) -> Any:
        """The model for evaluation and deployment. If there is an average, this is the average."""
        return self.model if self.average is None else self.average.module

    def begin(self) -> None:
        """Prepares a step. Call it before the forward pass."""
        self.optimizer.zero_grad()
        self.statistics.remember()

    def clip(self) -> Tensor:
        """Clips the norm of the whole gradient, and returns the norm before."""
        self.scaler.unscale_(self.optimizer)
        return torch.nn.utils.clip_grad_norm_(self.parameters, self.clip_norm)

    def advance(self) -> None:
        """One step of the optimiser, the schedule, the scaler and the average."""
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.schedule.step()
        if self.average is not None:
            self.average.update_parameters(self.model)

    def skip(self) -> None:
        """Skips this step. An overflow halves the scale of fp16."""
        self.statistics.restore()
        self.scaler.update()
        with warnings.catch_warnings():
            # The schedule counts batches, not updates. PyTorch warns if this comes before the first update.
            warnings.filterwarnings("ignore", "Detected call of `lr_scheduler.step", UserWarning)
            self.schedule.step()

    def looks_for_scale(self) -> bool:
        """Whether fp16 still looks for its scale. Then an overflow is not a bad step."""
        return self.scaler.is_enabled() and self.scaler.get_scale() >= 1

    def learning_rate(self) -> float:
        """The learning rate of the next step."""
        return float(self.schedule.get_last_lr()[0])

    def num_bytes(self) -> int:
        """The size of a checkpoint, about: weights, their average, and two moments of trained weights."""
        weights = [*self.model.state_dict().values()] * (1 if self.average is None else 2)
        return sum(tensor.numel() * tensor.element_size() for tensor in weights + 2 * self.parameters)

    def to_checkpoint(self) -> dict[str, Any]:
        """The entries of a checkpoint. "model" is evaluated. "trained" has the weights behind an average."""
        checkpoint = {
            "model": self.evaluated.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "scaler": self.scaler.state_dict(),
        }
        if self.average is not None:
            checkpoint["trained"] = self.model.state_dict()
            checkpoint["num_averaged"] = int(self.average.n_averaged)
        return checkpoint

    def load(self, checkpoint: dict[str, Any]) -> None:
        """Loads the result of `to_checkpoint`."""
        self.model.load_state_dict(checkpoint.get("trained", checkpoint["model"]))
        if self.average is not None:
            self.average.module.load_state_dict(checkpoint["model"])
            self.average.n_averaged.fill_(checkpoint["num_averaged"])
        self.optimizer.load_state_dict(checkpoint["optimizer"])
        self.schedule.load_state_dict(checkpoint["schedule"])
        # The learning rate follows the new schedule, since a run may be resumed with more iterations.
        done = self.schedule.last_epoch
        for group, base in zip(self.optimizer.param_groups, self.schedule.base_lrs, strict=True):
            group["lr"] = base * self.schedule.lr_lambdas[0](done)
        self.schedule._last_lr = [group["lr"] for group in self.optimizer.param_groups]
        if self.scaler.is_enabled():
            self.scaler.load_state_dict(checkpoint["scaler"])


def parameter_groups(model: SparseRCNN, rate: float, multiplier: float) -> list[dict[str, Any]]:
    """The trained parameters; those of the backbone's trunk apart if they have a rate of their own."""
    trained = {name: value for name, value in model.named_parameters() if value.requires_grad}
    trunk = [name for name in trained if multiplier != 1 and name.startswith("backbone.trunk.")]
    groups = [{"params": [value for name, value in trained.items() if name not in trunk], "lr": rate}]
    if trunk:
        groups.append({"params": [trained[name] for name in trunk], "lr": rate * multiplier})
    return groups


def average_with(decay: float, counter: Tensor) -> Callable[[Tensors, Tensors, Tensor | int], None]:
    """An exponential moving average. Its decay begins low: min(decay, (1 + n) / (3 + n)), n in the counter.

    Until the decay is reached, the window grows with the run: the mean age of the averaged weights is a third
    of the n steps so far (Karras et al. 2024, Analyzing and Improving the Training Dynamics of Diffusion
    Models, section 3.1).
    """

    def update(means: Tensors, values: Tensors, _: Tensor | int) -> None:
        number = int(counter)  # what is given is a copy on the device
        so_far = (1 + number) / (3 + number)
        torch._foreach_lerp_(means, values, 1 - min(decay, so_far))

    return update


def usual_steps(iterations: int) -> list[int]:
    """The iterations at which the step schedule divides the rate by 10: in the paper, 210000 and 250000."""
    return [iterations * 7 // 9, iterations * 25 // 27]


def learning_rate_factor(arguments: argparse.Namespace, iteration: int) -> float:
    """The learning rate of an iteration, divided by --learning-rate."""
    if arguments.schedule == "step":
        steps = usual_steps(arguments.iterations) if arguments.steps is None else arguments.steps
        factor = 0.1 ** sum(iteration >= step for step in steps)
    else:
        factor = 0.5 * (1 + math.cos(math.pi * iteration / arguments.iterations))
    warmup = arguments.warmup
    if arguments.minutes is not None:  # the number of steps was not known
        warmup = min(warmup, arguments.iterations // 10)
    if iteration < warmup:
        progress = iteration / warmup
        factor *= 0.01 * (1 - progress) + progress
    return factor
