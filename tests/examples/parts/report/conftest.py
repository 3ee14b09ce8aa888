"""A small report of two detectors on photos with odd names, and a browser that opens it."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from parts.report.report import Evaluated, write_report
from PIL import Image

from sparse_rcnn.data import Analysis, DetectionDataset, analyse, evaluate_coco

ODD_NAMES = [
    "</script><script>alert(1)</script>",
    "\"quoted\" & 'single'",
    "😀 日本語",
    "<b>bold</b> <!-- -->",
    "a line\u2028and\nanother",
    "",
    "constructor",
    "never there",
]
NUM_PHOTOS = 20


class Report(NamedTuple):
    page: Path
    dataset: DetectionDataset
    analyses: list[Analysis]


def make_dataset(directory: Path) -> DetectionDataset:
    """Photos of noise with up to six objects of all classes except the last. The first photo has none."""
    generator = np.random.default_rng(0)
    files, boxes, labels = [], [], []
    for number in range(NUM_PHOTOS):
        height, width = (60, 80) if number % 2 else (80, 60)
        files.append(directory / f"photo <{number}> & 'é'.png")
        Image.fromarray(generator.integers(0, 255, (height, width, 3), dtype=np.uint8)).save(files[-1])
        corner = generator.uniform(0, 30, (number % 7, 2))
        boxes.append(np.concatenate([corner, corner + generator.uniform(8, 28, (number % 7, 2))], axis=1))
        labels.append(generator.integers(0, len(ODD_NAMES) - 1, number % 7))
    return DetectionDataset.from_boxes(files, boxes, labels, ODD_NAMES)


def make_results(dataset: DetectionDataset, seed: int) -> list[dict[str, Any]]:
    """Boxes near the objects, some of another class or twice, some on background. Many scores are equal."""
    generator = np.random.default_rng(seed)
    results = []
    for entry in dataset.coco_ground_truth()["annotations"]:
        for _ in range(generator.integers(0, 3)):
            x, y, width, height = np.array(entry["bbox"]) * generator.uniform(0.9, 1.1, 4)
            category = (
                entry["category_id"] if generator.random() < 0.7 else generator.choice(dataset.category_ids)
            )
            score = generator.integers(2, 10) / 10
            results.append((entry["image_id"], category, [x, y, width, height], score))
    for image in dataset.image_ids:
        x, y, side = generator.uniform(0, 40, 3)
        results.append((image, generator.choice(dataset.category_ids), [x, y, side, side], 0.1))
    return [
        {
            "image_id": int(image),
            "category_id": int(category),
            "bbox": [float(x) for x in box],
            "score": score,
        }
        for image, category, box, score in results
    ]


@pytest.fixture(scope="session")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    directory = tmp_path_factory.mktemp("report")
    dataset = make_dataset(directory)
    found = [make_results(dataset, seed) for seed in (1, 2)]
    analyses = [analyse(dataset, results) for results in found]
    evaluated = [
        Evaluated(name, evaluate_coco(dataset, results), analysis)
        for name, analysis, results in zip(("one.pth", "other.pth"), analyses, found, strict=True)
    ]
    page, problems = write_report(directory / "out", "one.pth on <photos>", dataset, evaluated)
    assert not problems
    return Report(page, dataset, analyses)


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs Playwright: pip install playwright")
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
    program = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    with sync_api.sync_playwright() as playwright:
        if program is None and not Path(playwright.chromium.executable_path).exists():
            pytest.skip("no Chromium: install it, or name it in CHROMIUM, or run playwright install chromium")
        browser = playwright.chromium.launch(executable_path=program)
        yield browser
        browser.close()
