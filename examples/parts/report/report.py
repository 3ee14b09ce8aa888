"""The whole report: report.html, and the photos beside it."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from parts.report.box_columns import KINDS, found_columns, object_columns
from parts.report.figures import figures_of
from parts.report.page import write_page
from parts.report.thumbnails import write_thumbnails
from sparse_rcnn.data import Analysis, DetectionDataset
from sparse_rcnn.data.evaluation.score_curves import THRESHOLDS

MOST_PHOTOS = 5000
MOST_BOXES = 100_000  # of all detectors: about 2 MB


class Evaluated(NamedTuple):
    """A detector on a data set.

    Attributes:
        name: What the page calls it.
        metrics: As from `evaluate_coco`; empty without pycocotools.
        analysis: As from `analyse`.
    """

    name: str
    metrics: dict[str, float]
    analysis: Analysis


def write_report(
    directory: Path, title: str, dataset: DetectionDataset, evaluated: Sequence[Evaluated]
) -> tuple[Path, list[str]]:
    """Writes report.html and photos/.

    Args:
        directory: Where to; it is made.
        title: Of the page.
        dataset: The data set.
        evaluated: One detector, or two to compare, on the same images and classes.

    Returns:
        The page, and what photos could not be read.
    """
    directory.mkdir(parents=True, exist_ok=True)
    images = evaluated[0].analysis.boxes.image_ids.tolist()
    shown = np.unique(np.linspace(0, len(images) - 1, min(MOST_PHOTOS, len(images))).astype(int))
    index = {image: number for number, image in enumerate(dataset.image_ids)}
    indices = [index[images[place]] for place in shown]
    page = write_page(contents_of(title, dataset, evaluated, shown, indices), directory)
    return page, write_thumbnails(dataset, indices, directory)


def contents_of(
    title: str,
    dataset: DetectionDataset,
    evaluated: Sequence[Evaluated],
    shown: np.ndarray,
    indices: Sequence[int],
) -> dict[str, Any]:
    """All that the page shows, as plain data.

    Args:
        title: Of the page.
        dataset: The data set.
        evaluated: The detectors.
        shown: [P] the photos of the page, as indices of the images of the analysis.
        indices: [P] the same in the data set.
    """
    first = evaluated[0].analysis
    sizes = np.array([dataset.image_sizes[i] for i in indices], dtype=float).reshape(-1, 2)
    place = np.full(len(first.boxes.image_ids), -1)
    place[shown] = np.arange(len(shown))
    remarks, runs, least = [], [], 0.0
    for name, metrics, analysis in evaluated:
        found, left_out = found_columns(analysis, place, sizes, MOST_BOXES // len(evaluated))
        least = max(least, left_out)
        runs.append({"name": name, **figures_of(analysis, metrics), "found": found})
    if least:
        remarks.append(f"The page has no boxes with a score of {least:.3f} or less: it would be too large.")
    if len(shown) < len(place):
        remarks.append(
            f"The page shows {len(shown)} of {len(place)} photos, and counts their boxes at the threshold. "
            "The other figures are of all photos."
        )
    return {
        "title": title,
        "steps": len(THRESHOLDS),
        # Of the slider: all boxes from there on are on the page.
        "lowest": math.floor(100 * least + 1) / 100 if least else 0,
        "remarks": remarks,
        "kinds": KINDS,
        "classes": first.boxes.class_names,
        "objects": first.classes.objects.tolist(),
        "files": [Path(dataset.image_paths[i]).name for i in indices],
        "heights": sizes[:, 0].astype(int).tolist(),
        "widths": sizes[:, 1].astype(int).tolist(),
        "truth": object_columns(first, place, sizes),
        "runs": runs,
    }
