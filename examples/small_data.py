r"""Measures small data: AP over minutes of CPU time, of several methods, data sets and seeds.

    python examples/small_data.py --data bccd raccoon --minutes 5 --backbone mobilenet_v2 \
        --backbone-weights mobilenet_v2_imagenet_features.pth --jobs 2
    ... --peer "python faster_rcnn_small.py --data {data} --minutes {minutes} --every {every} --seed {seed}"
    ... --methods dense --variant "two-stages=--num-stages 2" --variant "ones=--class-targets one"

Methods: dense, which is train.py without further options; learned, the same with learned proposals and four
stages; and peer, any command that prints lines such as "2.5 CPU minutes, step 214: AP 0.330, AP50 0.599".
Each --variant is one more: dense with other options, as for an ablation.
Every process has one thread. What is there already is not run again. The output directory gets table.md,
results.json and minutes.png.
"""

import argparse
import itertools
import json
import os
import re
import shlex
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import mean, stdev
from typing import Any, NamedTuple

import matplotlib
from parts.command_line import CommandLine, run
from parts.training.recipe import EVALUATIONS

TRAIN = Path(__file__).with_name("train.py")
METHODS = ("dense", "learned", "peer")
LINE = re.compile(r"^([\d.]+) CPU minutes, .*?AP ([\d.]+), AP50 ([\d.]+)", re.MULTILINE)
Curve = list[tuple[float, float, float]]  # minutes, AP, AP50


class Case(NamedTuple):
    """One training."""

    data: str
    method: str
    minutes: float
    seed: int

    @property
    def name(self) -> str:
        """Of its directory."""
        return f"{Path(self.data).resolve().name}-{self.method}-{self.minutes:g}min-seed{self.seed}"


def command_of(case: Case, options: argparse.Namespace) -> list[str]:
    """What runs it."""
    if case.method == "peer":
        every = case.minutes / EVALUATIONS
        return shlex.split(options.peer.format(**case._asdict(), every=every))
    trunk = [("--backbone", options.backbone), ("--backbone-weights", options.backbone_weights)]
    words = [word for pair in trunk if pair[1] for word in pair]
    words += ["--data", case.data, "--minutes", str(case.minutes), "--clock", "cpu", "--seed", str(case.seed)]
    output = ["--device", "cpu", "--output", str(Path(options.output) / case.name)]
    others = ["--proposals", "learned"] if case.method == "learned" else options.variants.get(case.method, [])
    return [sys.executable, str(TRAIN), *words, *others, *output]


def train(case: Case, options: argparse.Namespace) -> Curve:
    """AP over minutes of a training, which is run unless it is there.

    Raises:
        ValueError: If it fails.
    """
    directory = Path(options.output) / case.name
    log = directory.with_name(f"{case.name}.log")  # not with_suffix: 0.5 minutes have a dot
    if not (log.is_file() and curve_of(case, directory, log)):
        directory.parent.mkdir(parents=True, exist_ok=True)
        print(f"{case.name}: training, see {log}", flush=True)
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        with log.open("w") as file:
            done = subprocess.run(
                command_of(case, options), stdout=file, stderr=subprocess.STDOUT, env=environment
            )
        if done.returncode:
            last = (log.read_text().strip() or "nothing was printed").splitlines()[-1]
            raise ValueError(f"{case.name} ended with {done.returncode}: {last}; see {log}")
    curve = curve_of(case, directory, log)
    if not curve:
        raise ValueError(f"{log} has no line such as '5.0 CPU minutes, step 414: AP 0.440, AP50 0.796'")
    print(f"{case.name}: AP {curve[-1][1]:.3f}, AP50 {curve[-1][2]:.3f}", flush=True)
    return curve


def curve_of(case: Case, directory: Path, log: Path) -> Curve:
    """What a complete training has printed, or written; empty if it is not complete."""
    if case.method == "peer":
        curve = [tuple(map(float, found)) for found in LINE.findall(log.read_text())]
        return curve if curve and curve[-1][0] >= 0.99 * case.minutes else []  # type: ignore[return-value]
    if not (directory / "summary.json").is_file():
        return []
    entries = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
    return [(entry["minutes"], entry["AP"], entry["AP50"]) for entry in entries if "AP" in entry]


def table_of(curves: dict[Case, Curve]) -> str:
    """Markdown: a row a method and a data set, mean and standard deviation over the seeds."""
    lines = ["| data | method | minutes | seeds | AP | AP50 |", "| --- | --- | --- | --- | --- | --- |"]
    for (data, method, minutes), group in _by_method(curves).items():
        ends = [curve[-1] for curve in group]
        cells = []
        for column in (1, 2):
            values = [end[column] for end in ends]
            spread = f" ± {stdev(values):.3f}" if len(values) > 1 else ""
            cells.append(f"{mean(values):.3f}{spread}")
        lines.append(
            f"| {Path(data).name} | {method} | {minutes:g} | {len(ends)} | {cells[0]} | {cells[1]} |"
        )
    return "\n".join(lines) + "\n"


def plot(curves: dict[Case, Curve], path: Path) -> None:
    """AP and AP50 over minutes: a column a data set."""
    matplotlib.use("Agg")
    from matplotlib import pyplot

    names = [*dict.fromkeys(case.data for case in curves)]
    figure, axes = pyplot.subplots(
        2, len(names), figsize=(5 * len(names), 7), squeeze=False, layout="constrained"
    )
    methods = [*dict.fromkeys(case.method for case in curves)]
    colors = {method: f"C{number}" for number, method in enumerate(methods)}
    for column, data in enumerate(names):
        for row, metric in enumerate(("AP", "AP50")):
            for (of, method, minutes), group in _by_method(curves).items():
                for number, curve in enumerate(group if of == data else []):
                    label = f"{method}, {minutes:g} min" if number == 0 else None
                    values = [point[1 + row] for point in curve]
                    times = [point[0] for point in curve]
                    axes[row, column].plot(times, values, "o-", color=colors[method], label=label)
            axes[row, column].set(xlabel="minutes of CPU time", ylabel=metric)
            axes[row, column].set_ylim(bottom=0)
            axes[row, column].grid(alpha=0.3)
        axes[0, column].set_title(Path(data).name)
        axes[0, column].legend()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def _by_method(curves: dict[Case, Curve]) -> dict[tuple[str, str, float], list[Curve]]:
    groups: dict[tuple[str, str, float], list[Curve]] = {}
    for case, curve in curves.items():
        groups.setdefault((case.data, case.method, case.minutes), []).append(curve)
    return groups


def variant_of(text: str) -> tuple[str, list[str]]:
    """The name and the options of NAME=OPTIONS."""
    name, _, words = text.partition("=")
    if not re.fullmatch(r"[\w-]+", name) or not words.strip():
        raise argparse.ArgumentTypeError(f"must be NAME=OPTIONS, such as 'two=--num-stages 2', got {text!r}")
    return name, shlex.split(words)


def parse_arguments() -> argparse.Namespace:
    parser = CommandLine(__doc__)
    parser.add_argument("--data", nargs="+", required=True, metavar="DIR", help="data sets, as for train.py")
    parser.add_argument("--minutes", nargs="+", type=float, default=[5.0], help="of each training (5)")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0], help="a training for each (0)")
    parser.add_argument("--methods", nargs="+", choices=METHODS, help="all; peer needs --peer")
    variant = "one more method: options of train.py that dense does not have; may be repeated"
    parser.add_argument(
        "--variant", action="append", default=[], type=variant_of, metavar="NAME=OPTIONS", help=variant
    )
    parser.add_argument("--peer", metavar="COMMAND", help="with {data}, {minutes}, {every} and {seed}")
    parser.add_argument("--backbone", help="as for train.py")
    parser.add_argument("--backbone-weights", metavar="FILE", help="as for train.py")
    parser.add_argument("--jobs", type=int, default=1, help="trainings at a time (1)")
    parser.add_argument("--output", default="runs/small_data", metavar="DIR", help="(runs/small_data)")
    options = parser.parse_args()
    options.methods = options.methods or [name for name in METHODS if name != "peer" or options.peer]
    if "peer" in options.methods and not options.peer:
        parser.error("--methods peer needs --peer")
    options.variants = dict(options.variant)
    if len({*METHODS, *options.variants}) < len(METHODS) + len(options.variant):
        parser.error("each --variant needs a name of its own")
    if options.jobs < 1:
        parser.error(f"--jobs must be at least 1, got {options.jobs}")
    return options


def main() -> None:
    options = parse_arguments()
    cases = [
        Case(data, method, minutes, seed)
        for seed, minutes, data, method in itertools.product(
            options.seeds, options.minutes, options.data, (*options.methods, *options.variants)
        )
    ]
    with ThreadPoolExecutor(options.jobs) as pool:
        curves = dict(zip(cases, pool.map(lambda case: train(case, options), cases), strict=True))
    output = Path(options.output)
    table = table_of(curves)
    (output / "table.md").write_text(table)
    results: list[dict[str, Any]] = [{**case._asdict(), "curve": curve} for case, curve in curves.items()]
    (output / "results.json").write_text(json.dumps(results, indent=2))
    plot(curves, output / "minutes.png")
    print(f"{table}see {output}")


if __name__ == "__main__":
    run(main, ValueError, OSError, interrupted="interrupted; what is complete is not run again")
