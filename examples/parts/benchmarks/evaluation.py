"""Evaluating detections: COCO's figures by each evaluator, and the analysis. Each row has its own process."""

import importlib.metadata
import multiprocessing
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from parts.measuring import Machine, Table
from sparse_rcnn.data import analyse, evaluate_coco

ROWS = ("pycocotools", "faster_coco_eval", "analyse")
SIZES = (5000, 36000, 500000)  # images, objects and detections: as COCO's val2017 has, 100 a photo


def measure_evaluation(machine: Machine) -> list[Table]:
    """CPU time and memory of each evaluator on the same detections of 80 classes, and what AP it says."""
    sizes = (10, 72, 1000) if machine.tiny else SIZES
    rows: list[dict[str, Any]] = []
    for name in ROWS:
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            try:
                rows.append(pool.submit(measure_row, name, sizes).result())
            except ImportError as error:
                rows.append({"": name, "AP": str(error)})
    images, objects, detections = sizes
    versions = [f"{name} {importlib.metadata.version(name)}" for name in ("numpy", "pycocotools")]
    return [
        Table(
            f"Evaluating {images} images with {objects} objects and {detections} detections of 80 classes",
            rows,
            f"one call each; {', '.join(versions)}; memory beside that of the detections themselves",
        )
    ]


def measure_row(name: str, sizes: tuple[int, int, int]) -> dict[str, Any]:
    """One row: seconds, memory and AP."""
    truth, results = _detections(*sizes)
    before = _memory("VmRSS", reset=True)
    began, cpu = time.perf_counter(), time.process_time()
    if name == "analyse":
        ap = analyse(truth, results).ap
    else:
        ap = evaluate_coco(truth, results, evaluator=name)["AP"]
    row: dict[str, Any] = {"": name, "s": time.perf_counter() - began, "s of CPU": time.process_time() - cpu}
    if before:
        row["MB"] = (_memory("VmHWM") - before) / 1e6
    if name in sys.modules and hasattr(sys.modules[name], "__version__"):
        row[""] = f"{name} {sys.modules[name].__version__}"
    return {**row, "AP": f"{ap:.12f}"}


def _memory(key: str, reset: bool = False) -> float:
    """Bytes of this process, 0 where the system does not tell; its peak counts from a reset on."""
    try:
        if reset:
            Path("/proc/self/clear_refs").write_text("5")
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next(1024.0 * int(line.split()[1]) for line in lines if line.startswith(key))


def _detections(images: int, objects: int, detections: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A COCO ground truth of 80 classes, and detections: some near an object, some anywhere."""
    random, classes = np.random.default_rng(0), 80

    def boxes(count: int) -> np.ndarray:
        sides = np.exp(random.uniform(np.log(8), np.log(300), (count, 2)))
        return np.concatenate([random.uniform(0, 500, (count, 2)), sides], axis=1)

    owner, label = random.integers(images, size=objects), random.integers(classes, size=objects)
    truth_boxes, crowd = boxes(objects), random.random(objects) < 0.01
    source = random.integers(objects, size=detections)
    near = random.random(detections) < 0.4
    shifted = truth_boxes[source] * random.normal(1, 0.05, (detections, 4))
    found = np.where(near[:, None], shifted, boxes(detections))
    image = np.where(near, owner[source], random.integers(images, size=detections))
    same = near & (random.random(detections) < 0.8)
    category = np.where(same, label[source], random.integers(classes, size=detections))
    score = np.where(near, random.beta(2, 2, detections), random.beta(1, 9, detections))
    truth = {
        "images": [{"id": number} for number in range(images)],
        "categories": [{"id": number, "name": f"class {number}"} for number in range(classes)],
        "annotations": [
            {"image_id": i, "category_id": c, "bbox": box, "area": box[2] * box[3], "iscrowd": int(is_crowd)}
            for i, c, box, is_crowd in zip(
                owner.tolist(), label.tolist(), truth_boxes.tolist(), crowd.tolist(), strict=True
            )
        ],
    }
    columns = image.tolist(), category.tolist(), found.tolist(), score.tolist()
    results = [
        {"image_id": i, "category_id": c, "bbox": box, "score": s}
        for i, c, box, s in zip(*columns, strict=True)
    ]
    return truth, results
