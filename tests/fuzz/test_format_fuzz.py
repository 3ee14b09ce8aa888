"""Annotation files with one fault each: each loads as it is, or ends in a ValueError that names the file.

A few seconds by default; a long run by hand, as many files as one likes:

    FUZZ_FORMAT_FILES=3000 pytest -n 0 tests/fuzz/test_format_fuzz.py
"""

import os
import random
import re
import time
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import layout_exports as exports
import numpy as np
import pytest

from sparse_rcnn.data import DatasetRemark, DetectionDataset, load_dataset

COUNT = int(os.environ.get("FUZZ_FORMAT_FILES", "120"))
SECONDS = 20  # for one file: longer is a hang
ANNOTATIONS = {".json", ".xml", ".yaml", ".data", ".names", ".txt", ".odgt"}
# Values that stand in files by accident, and some that no parser expects.
VALUES = [
    *("", " ", "0", "1", "-1", "1.5", "50.0", "nan", "NaN", "inf", "-Infinity", "1e999", "9" * 30, "1e-320"),
    *("null", "true", "[]", "{}", '""', "'", '"', "\\", "\x00", "\ufeff", "\\ud83d", "name", "../../etc"),
    *("C:\\x\\y.jpg", "a" * 300, "é", "日本", "-", ":", "&amp;", "&#0;", "<x/>", "]]>", "%20", "\n", "\t"),
]


def crowdhuman(root: Path) -> None:
    box = '{"tag": "person", "fbox": [4, 6, 20, 20], "extra": {"ignore": 0}}'
    lines = [f'{{"ID": "{picture.stem}", "gtboxes": [{box}]}}\n' for picture in exports.IMAGES]
    exports.text(root / "annotation_train.odgt", "".join(lines))
    for picture in exports.IMAGES:
        exports.draw(root / "Images" / f"{picture.stem}.jpg", picture)


WRITERS: tuple[Callable[[Path], None], ...] = (*exports.WITH_SPLITS, *exports.WITHOUT_SPLITS, crowdhuman)


def mutate(content: bytes, rng: random.Random) -> bytes:
    """One fault: bytes that are changed, cut, doubled or moved, or a value that is replaced."""
    value = rng.choice(VALUES).encode()
    if not content:
        return value
    kind = rng.randrange(9)
    first = rng.randrange(len(content))
    last = min(len(content), first + rng.choice([1, 2, 8, 64]))
    if kind == 0:
        return content[:first]
    if kind == 1:
        return content[:first] + content[last:]
    if kind == 2:
        return content[:last] + content[first:]
    if kind == 3:
        return content[:first] + bytes([rng.randrange(256)]) + content[first + 1 :]
    if kind == 4:
        return rng.choice([b"\xff\xfe", b"\xef\xbb\xbf", b"\x00", b"[" * 5000, b"{" * 50]) + content
    if kind == 5:
        return content[:first] + value + content[first:]
    word = rng.choice(list(re.finditer(rb"[\w.+-]+", content)))  # a number, a name or a field
    return content[: word.start()] + value + content[word.end() :]


def check(data: DetectionDataset) -> None:
    """What loads is sound: boxes inside their images, labels among the classes."""
    columns = data.annotations
    sizes = np.array(list(data.image_sizes)).reshape(-1, 2)[columns.image_indices][:, [1, 0, 1, 0]]
    assert np.isfinite(columns.boxes).all()
    assert ((columns.boxes >= 0) & (columns.boxes <= sizes + 1e-3)).all()
    assert ((columns.labels >= 0) & (columns.labels < len(data.class_names))).all()
    assert len({*data.image_ids}) == len(data) == len(data.image_paths)
    boxes = columns.boxes[data.is_target]
    assert (boxes[:, 2:] > boxes[:, :2]).all()


def attempt(layout: Path, file: Path, rng: random.Random) -> str:
    """Loads a layout in which one file has a fault. Returns the result."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", DatasetRemark)
        try:
            split = rng.choice(["train", "val"])
            data = load_dataset(layout, split, drop_degenerate=rng.random() < 0.5)
        except ValueError as error:
            message = str(error)
        else:
            check(data)
            return "loads"
    # The error names the file, unless the layout is not recognised any more.
    assert file.name in message or str(layout) in message, f"unnamed: {message}"
    assert len(message) < 3000, f"endless: {message[:3000]}"
    return "names the file" if file.name in message else "names the folder"


def test_every_fault_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPARSE_RCNN_CACHE", str(tmp_path / "cache"))
    rng = random.Random(int(os.environ.get("FUZZ_SEED", "0")))
    for write in WRITERS:
        write(tmp_path / write.__name__)
    files = [file for file in sorted(tmp_path.rglob("*")) if file.suffix in ANNOTATIONS]
    outcomes: Counter[str] = Counter()
    for number in range(COUNT):
        file = rng.choice(files)
        intact = file.read_bytes()
        broken = mutate(intact, rng)
        file.write_bytes(broken)
        started = time.monotonic()
        try:
            outcomes[attempt(tmp_path / file.relative_to(tmp_path).parts[0], file, rng)] += 1
        except Exception as error:
            where = f"case {number}: {file}, {broken[:2000]!r}"
            raise AssertionError(f"{where}: {type(error).__name__}: {error}") from error
        finally:
            file.write_bytes(intact)
        assert time.monotonic() - started < SECONDS, f"case {number}: {file}: {broken[:2000]!r}"
    print(dict(outcomes))
    assert outcomes["names the file"] > COUNT / 8
    assert outcomes["loads"] > COUNT / 8
