"""The experiments of the paper, by name. Each is a row of one of its tables, with options of train.py.

    python examples/experiments.py list
    python examples/experiments.py show self-attention
    python examples/experiments.py train self-attention
    python examples/experiments.py train self-attention --data /data/coco --processes 8
    python examples/experiments.py table 5 --seeds 0 1 2 --jobs 2
    python examples/experiments.py table 5 --scale photos --data bccd -- --backbone-weights mobilenet_v2.pth

Without --data, it uses the built-in shapes, and a model takes minutes. With --data, it uses the paper's
recipe. With --data and --scale photos, it uses a small model for a few hundred photos. Options after "--" go
to train.py, for all models. `table` trains the models that are missing. It writes tableN.md, tableN.json and
tableN.png into the output directory: the paper's figures beside ours, mean and standard deviation over the
seeds.
"""

import argparse
import shlex
import sys
from functools import partial
from pathlib import Path

import torch
from parts.command_line import CommandLine, run
from parts.paper.costs import build_detector, config_of, count
from parts.paper.models import MODELS, SCALES, arguments_of, find_model, options_of
from parts.paper.report import write_report
from parts.paper.runs import Run, train_missing
from parts.paper.tables import METRICS, TABLES
from parts.training.defaults import PAPER

from sparse_rcnn.inference import choose_device

SHAPES_CLASSES, COCO_CLASSES = 6, 80


def make_run(arguments: argparse.Namespace, name: str, seed: int) -> Run:
    """The run of a model with a seed."""
    options = options_of(name, SCALES[arguments.scale], arguments.data)
    words = [*arguments_of({**options, "seed": seed}), *arguments.rest]
    return Run(words, Path(arguments.output) / name / f"seed-{seed}")


def output_of(scale: str, data: str | None) -> str:
    """The default directory for the runs of a scale and a data set."""
    return f"runs/experiments/{scale}" + (f"-{Path(data).resolve().name}" if data else "")


def list_experiments() -> None:
    for number, table in TABLES.items():
        print(f"Table {number}: {table.title} ({table.claim})")
        for row in table.rows:
            figures = f"AP {row.figures[0]}" if row.figures else ""
            name = row.model or row.title
            print(f"  {name:<22} {row.title if row.model else '(measured only)':<46} {figures}")


def paper_figures(name: str) -> list[str]:
    """The paper's figures of a model, or of a peer that is only measured, table by table."""
    lines = []
    for number, table in TABLES.items():
        for row in table.rows:
            if name != (row.model or row.title):
                continue
            figures = ", ".join(f"{key} {v}" for key, v in zip(METRICS, row.figures, strict=False))
            figures += f", {row.fps} images/s on a V100" if row.fps else ""
            figures += f", {row.hours} h of training on 8 V100" if row.hours else ""
            lines.append(f"Table {number}, {row.title}" + (f": {figures}" if figures else ""))
    return lines


def show(arguments: argparse.Namespace) -> None:
    figures = paper_figures(arguments.name)
    if arguments.name not in MODELS and figures:
        print("\n".join([arguments.name, *figures, "measured only, by `table 1`: there is nothing to train"]))
        return
    changes = find_model(arguments.name)
    print("\n".join([arguments.name, *figures]))
    differing = [f"{key}={value}" for key, value in changes.items() if value != PAPER.get(key, False)]
    print(f"differs from Sparse R-CNN in: {', '.join(differing) or 'nothing'}")
    for key in [arguments.scale] if arguments.scale else ["paper", "shapes"]:
        scale = SCALES[key]
        data = None if key == "shapes" else arguments.data or "/data/coco"
        output = Path(arguments.output or output_of(key, data)) / arguments.name / "seed-0"
        options = {**options_of(arguments.name, scale, data), "output": output}
        words = [*arguments_of(options), *arguments.rest]
        config = config_of(words, SHAPES_CLASSES if key == "shapes" else COCO_CLASSES)
        cost = count(partial(build_detector, config), scale.size)
        height, width = scale.size
        print(
            f"{scale.text}: {cost.parameters / 1e6:.4g} M parameters and {cost.flops / 1e9:.4g} GFLOP at "
            f"{height} x {width}, with {config.num_classes} classes\n"
            f"  {shlex.join(['python', 'examples/train.py', *words])}"
        )


def parse_arguments() -> argparse.Namespace:
    words = sys.argv[1:]
    rest = words[words.index("--") + 1 :] if "--" in words else []
    parser = CommandLine(__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="list, show, train or table")
    commands.add_parser("list", help="all tables and the names of their models")
    where = CommandLine(add_help=False)
    where.add_argument("--data", metavar="DIR", help="COCO or VOC directory; if absent, the built-in shapes")
    where.add_argument(
        "--scale",
        choices=tuple(SCALES),
        help="size of the runs (with --data: paper; without: shapes; show: both)",
    )
    where.add_argument("--output", metavar="DIR", help="(runs/experiments/, then scale and data)")
    show_parser = commands.add_parser(
        "show", parents=[where], help="a model: figures, options, costs, command"
    )
    train_parser = commands.add_parser("train", parents=[where], help="train a model")
    for one in (show_parser, train_parser):
        one.add_argument("name", help="a model, as in the list")
    train_parser.add_argument("--seed", type=int, default=0)
    table = commands.add_parser("table", parents=[where], help="train or collect the rows of a table")
    table.add_argument("number", type=int, choices=tuple(TABLES))
    table.add_argument(
        "--seeds", type=int, nargs="+", default=[0], help="seeds; one run of each model for each (0)"
    )
    table.add_argument("--jobs", type=int, default=1, help="trainings at the same time, each with a log (1)")
    table.add_argument("--collect", action="store_true", help="do not train, only report the complete runs")
    table.add_argument("--repeats", type=int, default=15, help="rounds to measure speed (15)")
    table.add_argument(
        "--device", default="cuda" if torch.cuda.is_available() else "cpu", help="to measure speed on"
    )
    for one in (train_parser, table):
        one.add_argument("--processes", type=int, default=1, help="devices for a training, with torchrun (1)")
    arguments = parser.parse_args(words[: len(words) - len(rest) - 1] if "--" in words else words)
    arguments.rest = rest
    if arguments.command == "list":
        return arguments
    for key in ("jobs", "repeats", "processes"):
        if getattr(arguments, key, 1) < 1:
            parser.error(f"--{key} must be at least 1")
    if arguments.command == "show":
        return arguments
    for word in ("--seed", "--output", "--data"):
        if any(given == word or given.startswith(f"{word}=") for given in rest):
            parser.error(f'{word} goes before "--"')
    if arguments.command == "table" and len(set(arguments.seeds)) < len(arguments.seeds):
        parser.error("--seeds must differ")
    if arguments.command == "table" and arguments.jobs > 1 and arguments.processes > 1:
        parser.error("--jobs and --processes do not go together: each training would take the same devices")
    if arguments.scale is None:
        arguments.scale = "paper" if arguments.data else "shapes"
    if arguments.scale == "shapes" and arguments.data:
        parser.error("--scale shapes is for the built-in shapes: it goes without --data")
    if arguments.scale != "shapes" and not arguments.data:
        parser.error(f"--scale {arguments.scale} needs --data")
    arguments.output = arguments.output or output_of(arguments.scale, arguments.data)
    return arguments


def main() -> None:
    arguments = parse_arguments()
    if arguments.command == "list":
        list_experiments()
    elif arguments.command == "show":
        show(arguments)
    elif arguments.command == "train":
        find_model(arguments.name)
        make_run(arguments, arguments.name, arguments.seed).train(arguments.processes)
    else:
        device = choose_device(arguments.device)
        models = {row.model for row in TABLES[arguments.number].rows if row.model}
        runs = {
            name: [make_run(arguments, name, seed) for seed in arguments.seeds]
            for name in MODELS
            if name in models
        }
        problems: list[str] = []
        in_turn = [run for seed in zip(*runs.values(), strict=True) for run in seed]
        for run in in_turn:  # train.py would rename them and start again
            if (found := run.found()) and found[1]:
                raise ValueError(
                    f'{run.output} is complete, but {"; ".join(found[1])}: give what followed "--" then, or '
                    "another --output"
                )
        if not arguments.collect:
            problems = train_missing(in_turn, arguments.jobs, arguments.processes)
        conditions = f" from {arguments.data}" if arguments.data else ""
        conditions += f", {shlex.join(arguments.rest)}" if arguments.rest else ""
        write_report(
            arguments.number,
            runs,
            SCALES[arguments.scale],
            Path(arguments.output),
            arguments.repeats,
            device,
            conditions,
        )
        if problems:
            raise ValueError("; ".join(problems))


if __name__ == "__main__":
    run(main, ValueError, OSError, interrupted="interrupted; the same command continues the runs")
