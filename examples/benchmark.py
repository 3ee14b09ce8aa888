"""Measures this library beside the published way to write Sparse R-CNN and beside torchvision's detectors.

    python examples/benchmark.py
    python examples/benchmark.py --only inference head --repeats 9 --output runs/benchmark
    python examples/benchmark.py --only loading --data /data/coco

Each table comes from one run on the same inputs. Its rows take turns, and the tables show medians. So other
work on the machine disturbs all rows equally. Ratios are more reliable than times.
On a CPU, rows of the network, the head, RoIAlign and training run in their own processes.

`published style` is examples/parts/published_style.py, eager, with this library's weights. `memory kept`
means that the process keeps freed memory (host_memory.py), as train.py, evaluate.py and detect.py do on a
CPU. The published code could do so, too: a row shows this. Weights are random, since speed does not
depend on them. Boxes have realistic sizes in all stages: log-uniform from a fiftieth of the image to all of
it. `over floor` is the time divided by a lower limit: the time of as many FLOPs in a matrix product of the
same type on this machine, measured in the same rounds.

With --gpu, there are other tables, about kernels, waits, memory and the working time of the GPU. Each row is
measured alone. gpu_check.py runs them, and the tests of a GPU, within nine minutes.

    python examples/benchmark.py --gpu --only gpu-inference gpu-training

The output directory gets benchmark.md and benchmark.json. A row that fails says why. The script then ends
with an error.
"""

import argparse
import json
import os
import platform
import shlex
import sys
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import torch
import torchvision
from parts.benchmarks.evaluation import measure_evaluation
from parts.benchmarks.gpu.inference import measure_gpu_compiled, measure_gpu_inference
from parts.benchmarks.gpu.operations import (
    measure_gpu_head,
    measure_gpu_matching,
    measure_gpu_products,
    measure_gpu_roi,
)
from parts.benchmarks.gpu.peers import measure_gpu_peers
from parts.benchmarks.gpu.rows import FAILED
from parts.benchmarks.gpu.train_script import measure_gpu_train_script
from parts.benchmarks.gpu.training import measure_gpu_compiled_training, measure_gpu_training
from parts.benchmarks.head import measure_head
from parts.benchmarks.inference import measure_inference
from parts.benchmarks.loading import measure_loading
from parts.benchmarks.loss import measure_loss
from parts.benchmarks.roi import measure_roi
from parts.benchmarks.scaling import measure_scaling
from parts.benchmarks.training import measure_training
from parts.command_line import CommandLine, run
from parts.detector_options import add_device_option
from parts.measuring import Machine, Table, to_markdown
from parts.outputs import check_outputs

from sparse_rcnn.inference import choose_device

SECTIONS = ("inference", "head", "roi", "training", "loss", "scaling", "loading", "evaluation")
GPU_SECTIONS: dict[str, Callable[[Machine], Iterable[Table]]] = {
    "gpu-products": measure_gpu_products,
    "gpu-inference": measure_gpu_inference,
    "gpu-training": measure_gpu_training,
    "gpu-roi": measure_gpu_roi,
    "gpu-compiled": measure_gpu_compiled,
    "gpu-compiled-training": measure_gpu_compiled_training,
    "gpu-head": measure_gpu_head,
    "gpu-matching": measure_gpu_matching,
    "gpu-peers": measure_gpu_peers,
    "gpu-train-script": measure_gpu_train_script,
}


def header(machine: Machine) -> str:
    """The command, the machine and the versions."""
    name = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        models = [x for x in Path("/proc/cpuinfo").read_text().splitlines() if x.startswith("model name")]
        name = models[0].partition(":")[2].strip() if models else name
    where = f"{os.cpu_count()} cores of {name}, {torch.get_num_threads()} threads"
    if machine.device.type == "cuda":
        where = f"{torch.cuda.get_device_name(machine.device)}, {where}"
    versions = f"Python {platform.python_version()}, torch {torch.__version__}"
    return (
        f"`python {shlex.join(sys.argv)}` on {where}; {versions}, torchvision {torchvision.__version__}; "
        f"medians of {machine.repeats} rounds in which all rows of a table take turns "
        "(with --gpu: of as many calls of each row)"
    )


def parse_arguments() -> argparse.Namespace:
    parser = CommandLine(__doc__)
    parser.add_argument("--gpu", action="store_true", help="the tables of a GPU instead of the others")
    parser.add_argument(
        "--only", nargs="+", choices=(*SECTIONS, *GPU_SECTIONS), help="only these tables (all)"
    )
    parser.add_argument("--repeats", type=int, default=5, help="rounds to measure, after one to warm up (5)")
    parser.add_argument("--no-compile", action="store_true", help="no rows that take minutes to compile")
    parser.add_argument("--tiny", action="store_true", help="tiny images, only to check that the script runs")
    parser.add_argument("--data", metavar="DIR", help="COCO or VOC directory to read (generated pictures)")
    parser.add_argument("--output", default="runs/benchmark", metavar="DIR", help="(runs/benchmark)")
    add_device_option(parser)
    arguments: argparse.Namespace = parser.parse_args()
    if arguments.repeats < 1:
        parser.error("--repeats must be at least 1")
    if arguments.only is None:
        arguments.only = list(GPU_SECTIONS) if arguments.gpu else list(SECTIONS)
    return arguments


def main() -> None:
    arguments = parse_arguments()
    device = choose_device(arguments.device)
    # Full float32 in all rows called so: convolutions would take TensorFloat-32, products would not.
    torch.backends.cudnn.allow_tf32 = False
    machine = Machine(device, arguments.repeats, not arguments.no_compile, arguments.tiny)
    sections: dict[str, Callable[[], Iterable[Table]]] = {
        "inference": lambda: measure_inference(machine),
        "head": lambda: measure_head(machine),
        "roi": lambda: measure_roi(machine),
        "training": lambda: measure_training(machine),
        "loss": lambda: measure_loss(machine),
        "scaling": lambda: measure_scaling(machine),
        "loading": lambda: measure_loading(machine, arguments.data),
        "evaluation": lambda: measure_evaluation(machine),
        **{name: partial(measure, machine) for name, measure in GPU_SECTIONS.items()},
    }
    output = Path(arguments.output)
    check_outputs({}, folders={"--output": output})
    output.mkdir(parents=True, exist_ok=True)
    head = header(machine)
    print(head, flush=True)
    tables: list[Table] = []
    for name in arguments.only:
        for table in sections[name]():
            if tables and tables[-1].title == table.title:
                tables.pop()  # it has one more row now
            tables.append(table)
            print(f"\n{to_markdown(table)}", flush=True)
            # After each row of a GPU, or each table: nothing is lost if the next one runs out of memory.
            text = "\n".join([f"{head}.\n", *map(to_markdown, tables)])
            (output / "benchmark.md").write_text(text)
            record = {"header": head, "tables": [table._asdict() for table in tables]}
            (output / "benchmark.json").write_text(json.dumps(record, indent=2))
    print(f"tables in {output / 'benchmark.md'} and {output / 'benchmark.json'}")
    if failed := [f"{row['']} ({row[FAILED]})" for table in tables for row in table.rows if FAILED in row]:
        raise ValueError(f"{len(failed)} rows failed: {'; '.join(failed)}")


if __name__ == "__main__":
    run(main, ValueError)
