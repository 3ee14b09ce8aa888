"""The report of a table: Markdown, JSON and a plot, with the paper's figures beside ours."""

import json
import platform
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
import torch
import torchvision
from torch import nn

from parts.evaluating import without_nan
from parts.measuring import Table, to_markdown
from parts.paper.costs import build_detector, config_of, count, images_per_second
from parts.paper.models import Scale
from parts.paper.peers import PEERS
from parts.paper.runs import Run
from parts.paper.tables import TABLES, Row
from sparse_rcnn.data.shapes.shape_drawing import CLASS_NAMES
from sparse_rcnn.nn import ModelConfig

matplotlib.use("Agg")

Build = Callable[[], nn.Module]


def write_report(
    number: int,
    runs: dict[str, list[Run]],
    scale: Scale,
    output: Path,
    repeats: int,
    device: torch.device,
    conditions: str = "",
) -> None:
    """Prints and writes the table and the conditions of its runs. Incomplete runs have only costs."""
    results = {name: [r for run in seeds if (r := run.result()) is not None] for name, seeds in runs.items()}
    rows, builds = [], {}
    for row in TABLES[number].rows:
        build, problem = _builder(row, runs, results)
        if build is not None:
            try:
                builds[row.title] = build
                cost = count(build, scale.size)
            except ImportError as error:
                builds.pop(row.title)
                problem = str(error)
        entry: dict[str, Any] = {"row": row.title, "model": row.model, "paper": list(row.figures)}
        entry |= {"paper_fps": row.fps, "paper_hours": row.hours, "problem": problem}
        if row.title in builds:
            entry |= {"parameters": cost.parameters, "flops": cost.flops}
        found = results.get(row.model, [])
        entry["runs"] = [{k: v for k, v in result.items() if k != "config"} for result in found]
        rows.append(entry)
    speeds = images_per_second(builds, scale.size, repeats, device)
    for entry in rows:
        entry["images_per_second"] = speeds.get(entry["row"])
    note = _note(number, f"{scale.text}{conditions}", scale.size, device, rows)
    table = Table(f"Table {number}. {TABLES[number].title}", _shown(rows), note)
    text = to_markdown(table)
    print(text)
    output.mkdir(parents=True, exist_ok=True)
    name = f"table{number}"
    (output / f"{name}.md").write_text(text)
    whole = {"table": number, "note": table.note, "rows": rows}
    (output / f"{name}.json").write_text(json.dumps(without_nan(whole), indent=2))
    _plot(number, rows, output / f"{name}.png")
    print(f"written to {output / name}.md, .json and .png")


def _builder(
    row: Row, runs: dict[str, list[Run]], results: dict[str, list[dict[str, Any]]]
) -> tuple[Build | None, str]:
    """A function that builds the detector of a row, or the reason why there is none."""
    if not row.model:
        return PEERS.get(row.title), "" if row.title in PEERS else "needs compiled extensions, not measured"
    if results[row.model]:
        config = ModelConfig.from_dict(results[row.model][0]["config"])
    else:
        words = runs[row.model][0].arguments()
        known = [result["config"]["num_classes"] for found in results.values() for result in found]
        config = config_of(words, (known or [80 if "--data" in words else len(CLASS_NAMES)])[0])
    return lambda: build_detector(config), ""


def _values(entry: dict[str, Any], key: str) -> list[float]:
    return [run[key] for run in entry["runs"] if run[key] is not None]


def _mean(entry: dict[str, Any], key: str) -> float | None:
    values = _values(entry, key)
    return statistics.mean(values) if values else None


def _shown(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows as printed: AP in percent, its gain over the first row that paper and runs have, costs."""
    both = [entry for entry in rows if entry["paper"] and _values(entry, "AP")]
    base = both[0] if both else rows[0]
    costs = {"M parameters": "parameters", "GFLOP": "flops", "images/s": "images_per_second"}
    scales = {"M parameters": 1e-6, "GFLOP": 1e-9, "images/s": 1}
    shown = []
    for entry in rows:
        line: dict[str, Any] = {"": entry["row"], "paper AP": None, "gain": None}
        if entry["paper"]:
            gain = entry["paper"][0] - base["paper"][0]
            line |= {"paper AP": f"{entry['paper'][0]:.1f}", "gain": f"{gain:+.1f}"}
        line |= {"our AP": None, "our gain": None, "our AP50": None}
        if values := _values(entry, "AP"):
            mean = statistics.mean(values)
            spread = f" ± {100 * statistics.stdev(values):.1f}" if len(values) > 1 else ""
            line["our AP"] = f"{100 * mean:.1f}{spread}"
            if base["runs"]:
                line["our gain"] = f"{100 * (mean - (_mean(base, 'AP') or 0.0)):+.1f}"
            line["our AP50"] = f"{100 * (_mean(entry, 'AP50') or 0.0):.1f}"
        for title, key in costs.items():
            line[title] = _with_ratio(entry.get(key), base.get(key), scales[title])
        line["min of training"] = _with_ratio(_mean(entry, "minutes"), _mean(base, "minutes"))
        shown.append(line)
    return shown


def _with_ratio(value: float | None, base: float | None, scale: float = 1.0) -> str | None:
    """The value with three digits, and its ratio to the first row."""
    if value is None:
        return None
    scaled = value * scale
    text = f"{scaled:.0f}" if scaled >= 100 else f"{scaled:.3g}"
    return f"{text} (×{value / base:.2f})" if base else text


def _note(
    number: int, text: str, size: tuple[int, int], device: torch.device, rows: list[dict[str, Any]]
) -> str:
    counts = sorted({len(entry["runs"]) for entry in rows if entry["model"]})
    runs = " to ".join(str(count) for count in dict.fromkeys((counts[0], counts[-1])))
    name = (
        torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else f"{torch.get_num_threads()} CPU threads"
    )
    peers = ""
    if number == 1 and size != (800, 1216):
        peers = "; Sparse R-CNN is the small network of this scale, the others are the published ones"
    problems = "".join(f"; {entry['row']}: {entry['problem']}" for entry in rows if entry["problem"])
    return (
        f"The paper's claim: {TABLES[number].claim}. Ours: {text}; {runs} runs a row, mean ± standard "
        f"deviation; costs of one image of {size[0]}×{size[1]}, speed with random weights on {name}, rows by "
        f"turns, and × of the first row that both have; Python {platform.python_version()}, torch "
        f"{torch.__version__}, torchvision {torchvision.__version__}{peers}{problems}"
    )


def _plot(number: int, rows: list[dict[str, Any]], path: Path) -> None:
    """Plots the paper's AP and ours by row, with a point for each run."""
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(
        1, 2, figsize=(11, 1.2 + 0.45 * len(rows)), sharey=True, layout="constrained"
    )
    names = [entry["row"] for entry in rows]
    for index, entry in enumerate(rows):
        if entry["paper"]:
            axes[0].barh(index, entry["paper"][0], color="tab:gray")
            axes[0].text(entry["paper"][0], index, f" {entry['paper'][0]:.1f}", va="center")
        mean = _mean(entry, "AP")
        if mean is not None:
            values = [100 * value for value in _values(entry, "AP")]
            axes[1].barh(index, 100 * mean, color="tab:blue", alpha=0.6)
            axes[1].plot(values, [index] * len(values), "k.", alpha=0.8)
            axes[1].text(max(values), index, f"  {100 * mean:.1f}", va="center")
    axes[0].set(title="paper, COCO val", xlabel="AP", yticks=range(len(names)), yticklabels=names)
    axes[1].set(title="here", xlabel="AP, a point for each run")
    axes[0].invert_yaxis()
    for side in axes:
        side.margins(x=0.15)
        side.grid(axis="x", alpha=0.3)
    figure.suptitle(f"Table {number}. {TABLES[number].title}")
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
