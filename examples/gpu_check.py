"""Runs all tests and tables that need a GPU, in one command and less than nine minutes.

    python examples/gpu_check.py
    python examples/gpu_check.py --only inference training "tests figures"
    python examples/gpu_check.py --device cpu --tiny
    PYTHONPATH=. python examples/gpu_check.py  # in a copy of the repository that is not installed

Each part runs in its own process with a time limit. The tests of tests/gpu/ come first and run side by side.
Then come the tables of `benchmark.py --gpu`, one after the other. If a part hangs, it is killed with all
processes that it started. If a part fails, the others go on. If no time is left for a part, it is named as
skipped. The exit code is the number of parts that failed. The output directory ($OUT, if it is set) gets
gpu_check.md, gpu_check.json and gpu_check.log. `--device cpu --tiny` only checks that everything runs.
"""

import argparse
import os
import shlex
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

import torch
from parts.command_line import ending_with_the_reader
from parts.gpu_check.parts import Deadline, Result, run_parts
from parts.gpu_check.plan import make_plan
from parts.gpu_check.report import write_report

MOST_FAILURES = 100  # larger exit codes mean something else


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", metavar="PART", help="these parts (all)")
    parser.add_argument("--deadline", type=float, default=500, metavar="S", help="for all parts, in s (500)")
    parser.add_argument("--workers", type=int, default=6, help="tests that run side by side (6)")
    parser.add_argument("--repeats", type=int, default=10, help="timed calls of each row (10)")
    parser.add_argument("--output", metavar="DIR", help="($OUT, or runs/gpu_check)")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--tiny", action="store_true", help="tiny images, only to check that the script runs")
    return parser.parse_args()


def set_up_compilers() -> None:
    """Inductor's settings for the parts: kernels are compiled side by side, and CUDA's folder is known."""
    os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", str(min(8, os.cpu_count() or 1)))
    compiler = shutil.which("nvcc")
    folder = Path(compiler).resolve().parents[1] if compiler else Path("/usr/local/cuda")
    if folder.is_dir():  # AOTInductor links with a library there
        os.environ.setdefault("CUDA_HOME", str(folder))


def main() -> int:
    arguments = parse_arguments()
    if arguments.device == "cpu" and not arguments.tiny:
        raise ValueError("--device cpu needs --tiny: it only checks that the script runs")
    if arguments.device == "cuda" and not torch.cuda.is_available():
        raise ValueError("PyTorch finds no GPU that it can use; --device cpu --tiny checks the script")
    output = Path(arguments.output or os.environ.get("OUT") or "runs/gpu_check")
    deadline = Deadline(arguments.deadline)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, deadline.end_now)
    os.environ["SPARSE_RCNN_TEST_DEVICE"] = arguments.device
    if arguments.device == "cuda":
        set_up_compilers()
    results: list[Result] = []
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        parts = make_plan(arguments.device, arguments.tiny, arguments.repeats, directory)
        if arguments.only:
            names = [part.name for part in parts]
            if unknown := sorted({*arguments.only} - {*names}):
                raise ValueError(f"--only {unknown}: there is no such part; the parts are {', '.join(names)}")
            parts = [part for part in parts if part.name in arguments.only]

        def tell(result: Result) -> None:
            print(f"{time.monotonic() - began:5.0f} s  {result.name}: {result.status}", flush=True)
            results.append(result)
            write_report(directory, output, parts, results)  # nothing is lost if this process is ended

        run_parts(parts, deadline, directory, arguments.workers, tell)
        print("\n".join(write_report(directory, output, parts, results)))
    if skipped := [result.name for result in results if result.status == "skipped"]:
        print(f"no time was left for some parts; to run them: --only {shlex.join(skipped)}")
    print(f"{time.monotonic() - began:.0f} s; tables in {output / 'gpu_check.md'}")
    return min(MOST_FAILURES, sum(result.is_failure for result in results))


if __name__ == "__main__":
    try:
        with ending_with_the_reader():
            sys.exit(main())
    except ValueError as error:
        sys.exit(f"error: {error}")
