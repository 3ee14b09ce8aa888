"""Kills a small run at random moments, starts it again, and compares its end with that of a run left alone.

    python tests/fuzz/kills.py --kills 50 --output runs/kills

Moments are drawn from the whole life of a process: its imports, reading, steps, checkpoints (every fourth
step), evaluations (every 25th), and its end. Half of the kills leave the readers behind. It is not a test
of the suite, and takes 20 to 30 minutes on two cores. tests/examples/test_survival.py kills once, and
fault_injection.py kills one of two processes.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch

TRAIN = Path(__file__).resolve().parents[2] / "examples" / "train.py"
OPTIONS = (
    *("--shapes-images", "12", "--batch-size", "2", "--log-interval", "1", "--hidden-dim", "16"),
    *("--dynamic-dim", "8", "--feedforward-dim", "32", "--num-heads", "4", "--num-proposals", "5"),
    *("--num-stages", "2", "--warmup", "2", "--checkpoint-interval", "4", "--eval-interval", "25"),
    *("--ema", "0.9", "--device", "cpu", "--backbone-norm", "group", "--learning-rate", "2.5e-5"),
)
PATIENCE = 120  # seconds in which a run must come to its next step


class Run:
    """A run in its own directory. The same command starts it again, as often as needed."""

    def __init__(self, output: Path, iterations: int) -> None:
        self.output = output
        self.command = [sys.executable, str(TRAIN), *OPTIONS, "--iterations", str(iterations)]
        self.command += ["--shapes-dir", str(output.with_name("shapes")), "--output", str(output)]

    def start(self) -> subprocess.Popen:
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        with self.output.with_suffix(".log").open("a") as log:
            return subprocess.Popen(
                self.command, stdout=log, stderr=log, env=environment, start_new_session=True
            )

    def num_entries(self) -> int:
        file = self.output / "metrics.jsonl"
        return len(file.read_text(errors="replace").splitlines()) if file.exists() else 0

    def end(self) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        """Its log without times, and its last checkpoint without times and directory."""
        entries = [json.loads(line) for line in (self.output / "metrics.jsonl").read_text().splitlines()]
        for entry in entries:
            for key in ("images_per_second", "memory_gb"):
                entry.pop(key, None)
        checkpoint = torch.load(self.output / "checkpoint.pth", weights_only=True)
        for key in ("seconds", "spent", "digest"):
            checkpoint.pop(key, None)
        del checkpoint["arguments"]["output"]
        return entries, checkpoint


def kill_at_random(run: Run, generator: random.Random) -> bool:
    """Starts a run and kills it. Returns False if the run was complete before."""
    before, process, began = run.num_entries(), run.start(), time.monotonic()
    if generator.random() < 0.15:  # while it starts
        time.sleep(generator.uniform(0.5, 8))
    else:
        while process.poll() is None and run.num_entries() <= before:
            if time.monotonic() - began > PATIENCE:
                process.kill()
                raise RuntimeError(f"{run.output.with_suffix('.log')}: hangs")
            time.sleep(0.02)
        time.sleep(generator.uniform(0, 4))
    if process.poll() is not None:
        assert process.returncode == 0, run.output.with_suffix(".log")
        return False
    kill = os.killpg if generator.random() < 0.5 else os.kill  # with its readers, or alone
    kill(process.pid, signal.SIGKILL)
    process.wait()
    return True


def differences(found: Any, expected: Any, where: str = "") -> list[str]:
    """Where nested plain data and tensors are not equal to the last bit."""
    if isinstance(expected, (list, tuple)) and len(found) == len(expected):
        found, expected = dict(enumerate(found)), dict(enumerate(expected))
    if isinstance(expected, dict) and found.keys() == expected.keys():
        return [text for key in expected for text in differences(found[key], expected[key], f"{where}/{key}")]
    is_tensor = isinstance(expected, torch.Tensor)
    same = torch.equal(found, expected) if is_tensor else found == expected
    return [] if same else [f"{where}: {found} is not {expected}"]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--iterations", type=int, default=160, help="of a run (160)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (0)")
    parser.add_argument("--output", type=Path, default=Path("runs/kills"), help="a new directory")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True)
    generator = random.Random(arguments.seed)
    whole = Run(arguments.output / "whole", arguments.iterations)
    assert whole.start().wait() == 0, whole.output.with_suffix(".log")
    killed, different = 0, 0
    while killed < arguments.kills:
        run = Run(arguments.output / f"after_{killed}", arguments.iterations)
        while killed < arguments.kills and kill_at_random(run, generator):
            killed += 1
            print(f"{killed} of {arguments.kills} kills, {run.num_entries()} entries", flush=True)
        assert run.start().wait() == 0, run.output.with_suffix(".log")  # to its end, if it was not there
        found = differences(run.end(), whole.end())
        different += bool(found)
        print("\n".join([f"{run.output.name}: {len(found)} differences", *found[:5]]), flush=True)
    sys.exit(f"{different} runs are different" if different else 0)


if __name__ == "__main__":
    main()
