"""Generates a data set of Objects365's size, and measures opening it and reading it in workers.

    python tests/large_dataset.py runs/large                      # 2 million images, 25 million boxes
    python tests/large_dataset.py runs/large --images 20000 --boxes 250000

The image files are empty: only their names count here. It needs 6 GB of memory and 6 GB of disk.
"""

import argparse
import json
import multiprocessing
import os
import resource
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

CLASSES, FOLDER, PIECE = 365, 40_000, 50_000
SIZE = (768, 1024)  # height, width


def write_large(root: Path, num_images: int, num_boxes: int) -> None:
    """Writes a JSON as Objects365's, in its layout: train/images/patch7/objects365_v2_00000123.jpg."""
    names = [f"patch{number // FOLDER}/objects365_v2_{number:08d}.jpg" for number in range(num_images)]
    for number, name in enumerate(names):
        if number % FOLDER == 0:
            (root / "train" / "images" / name).parent.mkdir(parents=True)
        os.close(os.open(root / "train" / "images" / name, os.O_CREAT | os.O_WRONLY))
    file = root / "annotations" / "zhiyuan_objv2_train.json"
    file.parent.mkdir()
    with open(file, "w") as stream:
        stream.write('{"images": [')
        for number, name in enumerate(names):
            entry = {"height": SIZE[0], "id": number, "license": 5, "width": SIZE[1], "file_name": name}
            stream.write(f"{', ' if number else ''}{json.dumps(entry)}")
        stream.write('], "annotations": [')
        for rows in _annotations(num_images, num_boxes):
            stream.write(rows)
        categories = [{"name": f"class {number}", "id": number} for number in range(1, CLASSES + 1)]
        stream.write(f'], "categories": {json.dumps(categories)}, "licenses": []}}')


def _annotations(num_images: int, num_boxes: int) -> Iterator[str]:
    rng = np.random.default_rng(0)
    for first in range(0, num_boxes, PIECE):
        count = min(PIECE, num_boxes - first)
        corner = rng.uniform(0, 700, (count, 2)).round(6)
        sides = rng.uniform(4, 60, (count, 2)).round(6)
        columns = (
            np.arange(first, first + count).tolist(),
            (np.arange(first, first + count) * num_images // num_boxes).tolist(),  # in the order of images
            rng.integers(1, CLASSES + 1, count).tolist(),
            np.concatenate([corner, sides], axis=1).tolist(),
            sides.prod(axis=1).tolist(),
        )
        rows = (
            f'{{"id": {id}, "iscrowd": 0, "isfake": 0, "area": {area}, "isreflected": 0, "bbox": {box}, '
            f'"image_id": {image}, "category_id": {label}}}'
            for id, image, label, box, area in zip(*columns, strict=True)
        )
        yield (", " if first else "") + ", ".join(rows)


def measure(root: Path, workers: int) -> dict[str, Any]:
    """Opens the data set in this process and reads its targets in workers. Returns seconds and MB."""
    from sparse_rcnn.data import DatasetRemark, load_dataset

    warnings.simplefilter("ignore", DatasetRemark)
    base = resource.getrusage(resource.RUSAGE_SELF)
    begun = time.monotonic()
    dataset = load_dataset(root, "train", val_share=0)
    used = resource.getrusage(resource.RUSAGE_SELF)
    found: dict[str, Any] = {
        "images": len(dataset),
        "boxes": dataset.num_objects,
        "CPU seconds": used.ru_utime + used.ru_stime - base.ru_utime - base.ru_stime,
        "seconds": time.monotonic() - begun,
        "peak MB": used.ru_maxrss / 1024,
        "MB held": memory_of(os.getpid()),
    }
    for method in ("fork", "spawn"):
        bare, full = (held_with_workers(some, method, workers) for some in (None, dataset))
        found[f"MB that a worker adds, {method}"] = (full - bare) / workers
    return found


def held_with_workers(dataset: Any, method: str, workers: int) -> float:
    """The memory of this process and of workers that have read the whole data set, in MB.

    What several processes share counts once (PSS).
    """
    context = multiprocessing.get_context(method)
    barriers = [context.Barrier(workers + 1) for _ in range(2)]
    processes = [context.Process(target=_look, args=(dataset, barriers)) for _ in range(workers)]
    for process in processes:
        process.start()
    barriers[0].wait()
    held = sum(map(memory_of, (os.getpid(), *(process.pid or 0 for process in processes))))
    barriers[1].wait()
    for process in processes:
        process.join()
    return held


def _look(dataset: Any, barriers: list[Any]) -> None:
    import sparse_rcnn.data  # noqa: F401  # a spawned process holds it, with a data set or without

    for index in range(0 if dataset is None else len(dataset)):
        is_target, first = dataset._rows.arrays
        rows = slice(first[index], first[index + 1])
        boxes = dataset.annotations.boxes[rows][is_target[rows]]
        assert len(boxes) == len(dataset.annotations.labels[rows])
        assert dataset.image_paths[index].endswith(".jpg")
        assert (dataset.image_sizes[index], dataset.image_ids[index]) == (SIZE, index)
    for barrier in barriers:
        barrier.wait()


def memory_of(process: int) -> float:
    """The memory of a process in MB. Shared memory counts in parts (PSS)."""
    lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--images", type=int, default=2_000_000)
    parser.add_argument("--boxes", type=int, default=25_000_000)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--measure", action="store_true", help="measure only: the files are there")
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(arguments.directory, arguments.workers), indent=1))
        return
    if not arguments.directory.exists():
        write_large(arguments.directory, arguments.images, arguments.boxes)
    # In another process, so that the memory of the generator does not count.
    subprocess.run([sys.executable, __file__, *sys.argv[1:], "--measure"], check=True)


if __name__ == "__main__":
    main()
