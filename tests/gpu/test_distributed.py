"""DistributedDataParallel and FSDP2 with one process: the gradients do not change."""

import pytest
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel
from training_batch import gradients_of, largest_difference, small_step, training_batch


@pytest.fixture
def _one_process(device, tmp_path):
    backend = "nccl" if device.type == "cuda" else "gloo"
    if device.type == "cuda":
        torch.cuda.set_device(0)
    dist.init_process_group(backend, init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.usefixtures("_one_process")
def test_distributed_data_parallel(device):
    batch = training_batch(device)
    expected = gradients_of(small_step(device), batch)
    ids = [0] if device.type == "cuda" else None
    network = DistributedDataParallel(small_step(device), device_ids=ids, gradient_as_bucket_view=True)
    for _ in range(2):
        network.zero_grad()
        found = gradients_of(network, batch)
    found = {name.removeprefix("module."): gradient for name, gradient in found.items()}
    assert largest_difference(found, expected) <= 1e-4


# Nothing here works in place on what a stage returns.
@pytest.mark.filterwarnings("ignore:FSDP2-wrapped module:UserWarning")
@pytest.mark.usefixtures("_one_process")
def test_fully_sharded(device):
    batch = training_batch(device)
    expected = gradients_of(small_step(device), batch)
    step = small_step(device)
    mesh = init_device_mesh(device.type, (1,))
    for stage in step.model.head.stages:
        fully_shard(stage, mesh=mesh)
    fully_shard(step.model.backbone, mesh=mesh)
    fully_shard(step, mesh=mesh)
    total = step(*batch).losses.total
    total.backward()
    found = {n: p.grad.full_tensor().cpu() for n, p in step.named_parameters() if p.grad is not None}
    found["total"] = total.detach().cpu()
    assert largest_difference(found, expected) <= 1e-4
