"""What evaluate.py prints besides COCO's table: figures by class, kinds of error, figures of data sets."""

import math
from collections.abc import Iterable
from typing import Any

from parts.command_line import printable
from sparse_rcnn.data import Analysis, DetectionDataset, evaluate_crowdhuman, evaluate_lvis

LONGEST_NAME = 28
TITLES = ("   AP", " AP50", " AP75", "objects", "threshold", "precision", "recall", "   F1")
EXPLAINED = {
    "class": "on an object of another class",
    "localisation": "too far off",
    "both": "too far off an object of another class",
    "duplicate": "an object that a better detection found",
    "background": "where nothing is",
    "missed": "objects that nothing found",
}


def format_classes(analysis: Analysis) -> str:
    """A line for each class, and one for all together."""
    names = [_short(printable(name)) for name in analysis.boxes.class_names]
    width = max(map(len, [*names, "all classes"]))

    def line(name: str, cells: Iterable[Any]) -> str:
        return f"{name:<{width}}" + "".join(
            f"{cell if isinstance(cell, int | str) else _number(cell):>{len(title) + 2}}"
            for cell, title in zip(cells, TITLES, strict=True)
        )

    figures = analysis.classes
    columns = figures.ap, figures.ap50, figures.ap75, figures.objects, *figures[-4:]
    rows = zip(*(column.tolist() for column in columns), strict=True)
    total = analysis.ap, analysis.ap50, analysis.ap75, int(figures.objects.sum()), *analysis.best
    lines = [line(name, row) for name, row in zip(names, rows, strict=True)]
    return "\n".join([line("", TITLES), *lines, line("all classes", total)])


def format_errors(analysis: Analysis) -> str:
    """A line for each kind of error: how often, and what it costs."""
    shown, errors = analysis.shown_errors, analysis.errors
    lines = [f"{'error':<13}{f'from score {analysis.threshold:.2f}':>16}   AP50 that its repair would gain"]
    for name, count, gain in zip(errors.names, shown.counts.tolist(), errors.gains.tolist(), strict=True):
        lines.append(f"{name:<13}{count:>16}  {_number(gain):>6}   {EXPLAINED[name]}")
    return "\n".join(lines)


def other_figures(
    dataset: DetectionDataset, results: list[dict[str, Any]], most: int, images: list[int], classes: list[int]
) -> dict[str, dict[str, float]]:
    """The figures that a data set has of its own, by its name: CrowdHuman's and LVIS's."""
    if dataset.format_name == "CrowdHuman":
        return {"CrowdHuman": evaluate_crowdhuman(dataset, results, most, images, classes)}
    if dataset.lvis is not None:
        return {"LVIS": evaluate_lvis(dataset, results, most, images, classes)}
    return {}


def format_other(figures: dict[str, dict[str, float]], most: int) -> list[str]:
    """A line for each data set, and what it takes to compare it with published figures."""
    usual = {"CrowdHuman": 500, "LVIS": 300}
    lines = []
    for name, values in figures.items():
        lines.append(f"{name}: " + ", ".join(f"{key} {_number(value)}" for key, value in values.items()))
        if most < usual[name]:
            lines.append(
                f"published figures of {name} count {usual[name]} detections an image, these {most}: "
                f"--max-detections {usual[name]}"
            )
    return lines


def _short(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"


def _number(value: float) -> str:
    """Three digits; "-" where there is nothing to divide by."""
    return "-" if math.isnan(value) else f"{value:.3f}"
