"""examples/train.py on generated JPEGs: is reading the limit, or the GPU?"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch.utils.data import DataLoader

from parts.benchmarks.gpu.rows import FAILED
from parts.benchmarks.loading import draw_photographs
from parts.measuring import Machine, Table
from parts.open_dataset import load_dataset
from sparse_rcnn.data import SeededDataset, TrainingSampler, collate, training_transform

SCRIPT = Path(__file__).resolve().parents[3] / "train.py"
TINY = (
    *("--backbone", "resnet10", "--backbone-norm", "group", "--backbone-weights", "none"),
    *("--hidden-dim", "32", "--num-proposals", "5", "--num-stages", "1", "--sizes", "64"),
    *("--max-size", "96", "--eval-size", "64", "--batch-size", "2", "--iterations", "4"),
)


def make_data(directory: Path, machine: Machine) -> None:
    """Writes a COCO directory with photographs of 640 × 480, and random weights of a ResNet-50."""
    height, width = (48, 64) if machine.tiny else (480, 640)
    (directory / "annotations").mkdir()
    for split in ("train2017", "val2017"):
        (directory / split).mkdir()
        _, annotations = draw_photographs(directory / split, height, width)
        annotations.rename(directory / "annotations" / f"instances_{split}.json")
    if not machine.tiny:
        # Each block starts as the identity. Otherwise the features grow in each of the 16 blocks.
        resnet = torchvision.models.resnet50(weights=None, zero_init_residual=True)
        torch.save(resnet.state_dict(), directory / "resnet50.pth")


def reading_row(directory: Path, machine: Machine, workers: int) -> dict[str, Any]:
    """Images per second of the loader alone, with the settings of train.py."""
    dataset = load_dataset(str(directory), "train", training_transform())
    batch, batches = (2, 4) if machine.tiny else (16, max(24, 3 * workers))  # some of each worker
    sampler = TrainingSampler(dataset.image_sizes, batch, 0)
    loader = DataLoader(
        SeededDataset(dataset, 0), batch_sampler=sampler, collate_fn=collate, num_workers=workers
    )
    row: dict[str, Any] = {"": f"the loader alone, {workers} workers"}
    try:
        iterator = iter(loader)
        for _ in range(max(1, workers)):  # until all workers have started and read a batch
            next(iterator)
        began = time.perf_counter()
        for _ in range(batches):
            next(iterator)
    except RuntimeError as error:  # a worker died: too little shared memory
        return row | {FAILED: str(error).strip().splitlines()[0][:200]}
    return row | {"images/s": batch * batches / (time.perf_counter() - began)}


def training_row(directory: Path, machine: Machine, workers: int, precision: str) -> dict[str, Any]:
    """Images per second of the last steps of a short run."""
    output = directory / f"run-{workers}-{precision}"
    weights = str(directory / "resnet50.pth")
    options = TINY if machine.tiny else ("--backbone-weights", weights, "--iterations", "40")
    command = [sys.executable, str(SCRIPT), "--data", str(directory), "--output", str(output), *options]
    command += [
        "--recipe",
        "coco",
        "--workers",
        str(workers),
        "--precision",
        precision,
        "--device",
        str(machine.device),
    ]
    command += ["--log-interval", "2" if machine.tiny else "10", "--eval-interval", "0"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    row: dict[str, Any] = {"": f"train.py, {precision}, {workers} workers"}
    if done.returncode != 0:
        return row | {FAILED: (done.stderr.strip().splitlines() or ["no word"])[-1][:200]}
    lines = (output / "metrics.jsonl").read_text().splitlines()
    steps = [entry for entry in map(json.loads, lines) if "images_per_second" in entry]
    rates = [entry["images_per_second"] for entry in steps[1:]]  # the first ones warm up
    if not rates:
        return row | {FAILED: "no step has a rate: were all losses not finite?"}
    return row | {"images/s": sum(rates) / len(rates), "peak GB": steps[-1]["memory_gb"]}


def measure_gpu_train_script(machine: Machine) -> Iterator[Table]:
    """Tables for several numbers of workers. Each run is a table, since time may end."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        make_data(directory, machine)
        title = "Real JPEGs of 640 × 480, 16 a step"
        counts = (1,) if machine.tiny else (1, 4, 8, 16)
        yield Table(f"{title}: reading", [reading_row(directory, machine, workers) for workers in counts])
        for workers in (1,) if machine.tiny else (8, 16, 4):
            precision = "fp32" if machine.tiny else "bf16"
            row = training_row(directory, machine, workers, precision)
            yield Table(f"{title}: train.py with {workers} workers", [row])
