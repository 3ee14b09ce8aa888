"""Trains in two processes, injects faults, and prints the result of each as Markdown.

    python tests/fault_injection.py --data coco_mini --weights mobilenet_v2.pth --output runs/faults

Not a test of the suite (it takes about twenty minutes on two cores): what it shows stands in RESULTS.md, and
the suite tests each fault once (tests/examples/test_survival.py). Linux, and root for the small disk.
"""

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
TRAIN, FAULTY = HERE.parent / "examples" / "train.py", HERE / "faulty_training.py"


class Run:
    """A run in its own directory. The same command starts it again, as often as needed."""

    def __init__(self, output: Path, options: list[str], script: Path = TRAIN, **environment: str) -> None:
        self.output = output
        self.log = output.with_suffix(".log")
        launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
        self.command = [*launcher, str(script), *options, "--output", str(output)]
        self.environment = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
        self.starts = 0

    def start(self) -> subprocess.Popen:
        self.starts += 1
        with self.log.open("a") as log:
            return subprocess.Popen(
                self.command, stdout=log, stderr=log, env=self.environment, start_new_session=True
            )

    def finish(self) -> int:
        return self.start().wait()

    def processes(self) -> dict[int, bool]:
        """All processes of this run, and whether each is one that trains (not torchrun, not a reader)."""
        found = {}
        for directory in Path("/proc").iterdir():
            try:
                words = (directory / "cmdline").read_text().split("\0")
                parent = int((directory / "stat").read_text().rsplit(")", 1)[1].split()[1])
            except (OSError, ValueError, IndexError):
                continue
            if str(self.output) in words:
                found[int(directory.name)] = "torch.distributed.run" not in words and parent
        return {pid: bool(parent) and parent in found for pid, parent in found.items()}

    def losses(self) -> dict[int, float]:
        entries = map(json.loads, (self.output / "metrics.jsonl").read_text().splitlines())
        return {entry["iteration"]: entry["loss"] for entry in entries if "loss" in entry}

    def entries(self) -> list[dict]:
        return [json.loads(line) for line in (self.output / "metrics.jsonl").read_text().splitlines()]

    def metrics(self) -> dict:
        return json.loads((self.output / "summary.json").read_text())

    def said(self, text: str) -> list[str]:
        """Lines of the log with a text, as one would read them."""
        lines = self.log.read_text(errors="replace").replace("\r", "\n").splitlines()
        return [line.strip() for line in lines if text in line]


def kill_often(run: Run, times: int, generator: random.Random) -> list[str]:
    """Starts the run and kills it at random moments, then lets it end. Returns the killed processes."""
    killed: list[str] = []
    while len(killed) < times:
        process = run.start()
        time.sleep(generator.uniform(3, 20))
        assert process.poll() is None, f"{run.log}: ended before it was killed {times} times"
        kind = generator.choice(["everything", "one process"])
        found = run.processes()
        trainers = [pid for pid, trains in found.items() if trains]
        for pid in list(found) if kind == "everything" or not trainers else [generator.choice(trainers)]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait()
        while run.processes():  # readers end within seconds after their process
            time.sleep(0.2)
        killed.append(kind)
        print(f"  killed {kind}, {len(killed)} of {times}", file=sys.stderr, flush=True)
    assert run.finish() == 0, run.log
    return killed


def compare(run: Run, expected: Run) -> str:
    """In how many iterations the losses of two runs are equal to the last bit."""
    found, losses = run.losses(), expected.losses()
    assert found.keys() == losses.keys(), sorted(found.keys() ^ losses.keys())
    same = sum(found[iteration] == losses[iteration] for iteration in losses)
    metrics = "equal" if run.metrics()["AP"] == expected.metrics()["AP"] else "**different**"
    return f"{same} of {len(losses)} losses equal to the last bit, AP {metrics}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True, help="COCO directory")
    parser.add_argument("--weights", required=True, help="of MobileNetV2, in torchvision's layout")
    parser.add_argument("--output", required=True, type=Path, help="directory, made anew")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--iterations", type=int, default=60, help="five times as many for the kills")
    parser.add_argument("--seed", type=int, default=0, help="of the moments of death")
    arguments = parser.parse_args()
    shutil.rmtree(arguments.output, ignore_errors=True)
    arguments.output.mkdir(parents=True)
    options = [
        *("--data", arguments.data, "--drop-degenerate-boxes", "--backbone", "mobilenet_v2"),
        *("--backbone-weights", arguments.weights, "--num-proposals", "20", "--num-stages", "2"),
        *("--hidden-dim", "64", "--dynamic-dim", "16", "--feedforward-dim", "128", "--batch-size", "4"),
        *("--sizes", "128", "160", "--max-size", "256", "--eval-size", "128", "--workers", "1"),
        *("--iterations", str(arguments.iterations), "--log-interval", "1", "--checkpoint-interval", "5"),
        *("--schedule", "cosine", "--learning-rate", "2e-4", "--eval-interval", "0", "--device", "cpu"),
        *("--ema", "0.99", "--recipe", "coco"),
    ]
    rows = []

    longer = [*options, "--iterations", str(5 * arguments.iterations)]
    long = Run(arguments.output / "long", longer)
    assert long.finish() == 0, long.log
    killed = Run(arguments.output / "killed", longer)
    kinds = kill_often(killed, arguments.kills, random.Random(arguments.seed))
    steps = [line.split("at iteration ")[1].split()[0] for line in killed.said("resuming at iteration")]
    who = " and ".join(f"{kinds.count(kind)} times {kind}" for kind in sorted(set(kinds)))
    rows.append(
        (
            f"kill -9 at {len(kinds)} random times, {who}",
            f"went on at {', '.join(steps)}; {compare(killed, long)}",
        )
    )

    whole = Run(arguments.output / "whole", options)
    assert whole.finish() == 0, whole.log

    corrupt = Run(arguments.output / "corrupt", options)
    shutil.copytree(whole.output, corrupt.output)
    (corrupt.output / "summary.json").unlink()
    newest = max((corrupt.output / "checkpoints").glob("*.pth"))
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes(content)
    assert corrupt.finish() == 0, corrupt.log
    said = corrupt.said("is damaged")[0].replace(f"{corrupt.output}/", "")
    rows.append(("one bit of the newest checkpoint flipped", f"*{said}*; {compare(corrupt, whole)}"))

    annotations = json.loads((Path(arguments.data) / "annotations" / "instances_train2017.json").read_text())
    ids = ",".join(str(image["id"]) for image in annotations["images"][::40])
    nan = Run(arguments.output / "nan", options, FAULTY, NAN_IMAGES=ids)
    assert nan.finish() == 0, nan.log
    skipped = [entry for entry in nan.entries() if "image_ids" in entry]
    rows.append(
        (
            "images of NaN, each in one of the two processes",
            f"{len(skipped)} steps skipped by both, the image ids of the process that met them recorded "
            f"({', '.join(str(entry['image_ids']) for entry in skipped)}) and the batches written; "
            f"{len(nan.losses())} steps done, all losses finite",
        )
    )

    copy = arguments.output / "data"
    shutil.copytree(arguments.data, copy)
    gap_options = [str(copy) if option == arguments.data else option for option in options]
    for image in sorted((copy / "train2017").iterdir())[::40]:
        image.unlink()
    gap = Run(arguments.output / "gap", gap_options)
    status = gap.finish()
    said = gap.said("error: ")[0].replace(f"{copy}/", "")
    rows.append(("missing images, new run", f"refused, status {status}: *{said}*"))
    gap = Run(arguments.output / "gap2", [*gap_options, "--max-unreadable", "50"])
    assert gap.finish() == 0, gap.log
    rows.append(
        (
            "missing images, `--max-unreadable 50`",
            f"{gap.metrics()['unreadable']} images replaced, each said; {len(gap.losses())} steps done",
        )
    )

    disk = arguments.output / "disk"
    disk.mkdir()
    size = sum(path.stat().st_size for path in (whole.output / "checkpoints").iterdir()) * 2 // 3
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(disk)], check=True)
    try:
        full = Run(disk / "full", options)
        full.log = arguments.output / "full.log"
        status = full.finish()
        failed = full.said("cannot write the checkpoint")
        left = sorted(path.name for path in (full.output / "checkpoints").iterdir())
        subprocess.run(["mount", "-o", f"remount,size={4 * size}", str(disk)], check=True)
        assert full.finish() == 0, full.log
        rows.append(
            (
                f"a disk of {size / 1e6:.0f} MB, full after the first checkpoint",
                f"{len(failed) - 1} checkpoints not written, said each time; training went on to the end, "
                f"which failed, status {status}; {', '.join(left)} was left; with more room, the same "
                f"command: {compare(full, whole)}",
            )
        )
    finally:
        subprocess.run(["umount", str(disk)], check=True)

    print("| iteration | uninterrupted | killed and resumed |\n| --- | --- | --- |")
    before, after = long.losses(), killed.losses()
    for iteration in [1, *range(25, len(before) + 1, 25)]:
        print(f"| {iteration} | {before[iteration]!r} | {after[iteration]!r} |")
    print("\n| fault | what became of it |\n| --- | --- |")
    for fault, outcome in rows:
        print(f"| {fault} | {outcome} |")


if __name__ == "__main__":
    main()
