"""The processes that train together: who this one is, and what they tell each other."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, NamedTuple, TypeVar

import torch
import torch.distributed as dist
from detector_file import choose_device
from torch import Tensor

Value = TypeVar("Value")
# Rank 0 checks every file of COCO and evaluates all detections while the others wait. Steps have the default
# of the backend: a process that dies is noticed by torchrun at once, but not by that of another node.
PATIENCE = timedelta(hours=1)


class Processes(NamedTuple):
    """This process among all of them; alone, there is nothing to exchange."""

    rank: int
    local_rank: int
    world_size: int
    device: torch.device
    patient: Any = None  # a group for what may take long, and for objects

    def sum(self, tensor: Tensor) -> Tensor:
        """Sum over all processes, in place."""
        if self.world_size > 1:
            dist.all_reduce(tensor)
        return tensor

    def gather(self, value: Value) -> list[Value]:
        """The values of all processes, on all of them."""
        if self.world_size == 1:
            return [value]
        values: list[Any] = [None] * self.world_size
        dist.all_gather_object(values, value, group=self.patient)
        return values

    def gather_to_first(self, value: Value) -> list[Value]:
        """The values of all processes on rank 0, none elsewhere."""
        if self.world_size == 1:
            return [value]
        values: list[Any] | None = [None] * self.world_size if self.rank == 0 else None
        dist.gather_object(value, values, group=self.patient)
        return values or []

    def from_first(self, value: Value) -> Value:
        """The value of rank 0."""
        if self.world_size == 1:
            return value
        values = [value]
        dist.broadcast_object_list(values, group=self.patient)
        return values[0]

    def copy_first(self, tensors: Iterator[Tensor]) -> None:
        """Overwrites tensors with those of rank 0."""
        if self.world_size > 1:
            for tensor in tensors:
                dist.broadcast(tensor, 0)

    def wait(self) -> None:
        """Returns when all processes have come here."""
        if self.world_size > 1:
            dist.barrier(group=self.patient)


@contextmanager
def joined(device_name: str) -> Iterator[Processes]:
    """Joins the other processes, if torchrun started this one, and leaves them at the end.

    After an error it does not: others may be waiting for something else, and torchrun ends them.
    """
    rank, world_size = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    local_rank = int(os.environ.get("LOCAL_RANK", 0))
    device = choose_device(device_name)
    if device.type == "cuda":
        device = torch.device("cuda", local_rank if world_size > 1 else device.index or 0)
        torch.cuda.set_device(device)
    patient = None
    if world_size > 1:
        if device.type == "cuda":
            dist.init_process_group("nccl", device_id=device)
        else:
            dist.init_process_group("gloo")
        patient = dist.new_group(backend="gloo", timeout=PATIENCE)
    yield Processes(rank, local_rank, world_size, device, patient)
    if world_size > 1:
        dist.destroy_process_group()
