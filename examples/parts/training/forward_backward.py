"""Forward and backward pass of a step, compiled or not, in parts, on one device or several."""

import argparse
from contextlib import nullcontext
from inspect import signature
from typing import Any

import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from parts.training.processes import Processes
from parts.training.training_state import TrainingState
from parts.training.training_step import (
    LOSSES,
    TrainingStep,
    compile_step,
    leave_open,
    loss_vector,
    recompute_backbone,
    recompute_head,
)
from sparse_rcnn.data import Batch
from sparse_rcnn.nn.head import Predictions

HALF = {"bf16": torch.bfloat16, "fp16": torch.float16}


class ForwardBackward:
    """Adds up the gradients of a step, over its parts and over all processes.

    Args:
        arguments: The options. --compile and --recompute-* change the model in place.
        state: The model, on its device, and the scaler of the loss.
        processes: The processes.
    """

    def __init__(self, arguments: argparse.Namespace, state: TrainingState, processes: Processes) -> None:
        if arguments.recompute_head:
            recompute_head(state.model)
        if arguments.recompute_backbone:
            recompute_backbone(state.model)
        step = TrainingStep(state.model, LOSSES[arguments.class_targets])
        self.weights = step.weights
        if arguments.compile:
            compile_step(step, arguments.compile)
        self.network: Any = step
        if processes.world_size > 1:
            device = processes.device
            known = signature(DistributedDataParallel).parameters
            name = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"
            self.network = DistributedDataParallel(
                step,
                device_ids=[device.index] if device.type == "cuda" else None,
                gradient_as_bucket_view=True,
                # Frozen norms never change. Statistics of batch norms are those of the first process.
                **{name: arguments.backbone_norm == "batch"},  # the second name is that of older torch
            )
        self.scaler = state.scaler
        self.processes = processes
        self.half = HALF.get(arguments.precision)
        self.sizes_differ = bool(arguments.compile and arguments.data)  # the shapes have one size

    def __call__(self, parts: list[Batch], num_targets: Tensor) -> tuple[Tensor, Predictions]:
        """One step.

        Args:
            parts: The batches of this process.
            num_targets: The number of targets of the whole step, over all processes. The loss is divided by
                it.

        Returns:
            The losses of this process, as `loss_vector` has them, and the predictions for the last part.
        """
        losses, predictions = self._add(parts[0], num_targets, last=len(parts) == 1)
        for number, part in enumerate(parts[1:], start=2):
            more, predictions = self._add(part, num_targets, last=number == len(parts))
            losses += more
        return losses, predictions

    def _add(self, batch: Batch, num_targets: Tensor, last: bool) -> tuple[Tensor, Predictions]:
        """Adds the gradients of one part. With the last part, the processes exchange them."""
        if self.sizes_differ:
            leave_open(batch.images, *batch.targets)
        processes = self.processes
        with nullcontext() if last or processes.world_size == 1 else self.network.no_sync():
            with torch.autocast(processes.device.type, self.half, enabled=self.half is not None):
                output = self.network(batch.images, batch.image_sizes, *batch.targets, num_targets)
            # Times world_size: DistributedDataParallel takes the mean of the gradients. A step needs the sum.
            self.scaler.scale(output.losses.total * processes.world_size).backward()
        return loss_vector(output.losses), output.predictions
