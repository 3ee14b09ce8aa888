"""The processes that train together, and the communication between them."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from sparse_rcnn.inference import choose_device

Value = TypeVar("Value")
# The others wait while rank 0 checks every file of COCO, or evaluates all detections. Steps have the default
# timeout of the backend. torchrun notices at once if a process of its node dies, but not of another node.
PATIENCE = timedelta(hours=1)
LAUNCH = "launch"  # a file in the directory of a run that says which torchrun started it


class Processes(NamedTuple):
    """This process among all processes. A single process exchanges nothing."""

    rank: int
    local_rank: int
    world_size: int
    device: torch.device
    patient: Any = None  # a group with a long timeout, and for objects

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
        """Waits until all processes call it."""
        if self.world_size > 1:
            dist.barrier(group=self.patient)


def launch_name() -> str:
    """A name for the torchrun that started this process. Restarts keep it. Empty without torchrun."""
    run = os.environ.get("TORCHELASTIC_RUN_ID")
    if run is None:
        return ""
    agent = os.getppid()
    try:  # with its start time, since containers use the same numbers again
        started = Path(f"/proc/{agent}/stat").read_text().rsplit(")", 1)[1].split()[19]
    except OSError:
        started = ""
    return f"{run} {agent} {started}"


def begun_by_this_launch(output: Path) -> bool:
    """Whether the run in a directory was begun by the torchrun that started this process."""
    file = output / LAUNCH
    return file.is_file() and file.read_text() == launch_name() != ""


@contextmanager
def joined(device_name: str) -> Iterator[Processes]:
    """Joins the other processes if torchrun started this one. Leaves them at the end.

    After an error, it does not leave, since others may wait for something else. torchrun ends them.
    """
    rank, world_size = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    local_rank = int(os.environ.get("LOCAL_RANK", 0))
    device = choose_device(device_name)
    if device.type == "cuda":
        device = torch.device("cuda", local_rank if world_size > 1 else device.index or 0)
        torch.cuda.set_device(device)
    patient = None
    if world_size > 1:
        own = _store_of_this_start(rank, world_size)
        if device.type == "cuda":
            dist.init_process_group("nccl", device_id=device, **own)
        else:
            dist.init_process_group("gloo", **own)
        patient = dist.new_group(backend="gloo", timeout=PATIENCE)
    yield Processes(rank, local_rank, world_size, device, patient)
    if world_size > 1:
        dist.destroy_process_group()


def _store_of_this_start(rank: int, world_size: int) -> dict[str, Any]:
    """A store in which processes exchange their addresses. After a restart it must be a new one.

    torchrun (torch 2.14) keeps one store over its restarts, so the first process would find addresses of
    processes that have ended. On several nodes, each node counts its own restarts: set
    TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 there.
    """
    environment = os.environ
    if environment.get("TORCHELASTIC_USE_AGENT_STORE") != "True" or environment["GROUP_WORLD_SIZE"] != "1":
        return {}
    store = dist.TCPStore(environment["MASTER_ADDR"], int(environment["MASTER_PORT"]), is_master=False)
    prefix = f"start_{environment['TORCHELASTIC_RESTART_COUNT']}"
    return {"store": dist.PrefixStore(prefix, store), "rank": rank, "world_size": world_size}
