"""The data of the page without a browser: they are those of the analysis, small, and safe in a script."""

import base64
import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from parts.report.box_columns import KINDS
from parts.report.figures import best_threshold
from parts.report.packing import ONE, packed, packed_shares, script_text
from parts.report.page import write_page
from parts.report.report import Evaluated, contents_of, write_report
from PIL import Image

from sparse_rcnn.data import analyse


def unpacked(text: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), dtype="<u2").astype(np.int64)


def data_of(page: Path) -> dict[str, Any]:
    scripts = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page.read_text(), re.S)
    assert len(scripts) == 1
    return json.loads(scripts[0])


def test_numbers_survive_packing() -> None:
    numbers = np.array([0, 1, 255, 256, 65535])
    assert (unpacked(packed(numbers)) == numbers).all()
    shares = packed_shares([0, 0.5, 1, 1.2, -0.1, np.nan])
    assert unpacked(shares).tolist() == [0, ONE // 2, ONE, ONE, 0, ONE + 1]


def test_no_text_ends_the_script() -> None:
    text = script_text({"name": "</script><!--<script>", "value": (float("nan"), [float("inf")])})
    assert "<" not in text
    assert json.loads(text) == {"name": "</script><!--<script>", "value": [None, [None]]}


def test_the_page_has_the_names_and_the_boxes_of_the_analysis(report: Any) -> None:
    data, analysis = data_of(report.page), report.analyses[0]
    assert data["classes"] == analysis.boxes.class_names == report.dataset.class_names
    assert data["files"] == [Path(path).name for path in report.dataset.image_paths]
    found, boxes = data["runs"][0]["found"], analysis.boxes.found
    assert unpacked(found["counts"]).tolist() == np.bincount(boxes.image, minlength=20).tolist()
    assert (unpacked(found["labels"]) == boxes.label).all()
    assert np.abs(unpacked(found["scores"]) / ONE - boxes.score).max() < 1 / ONE
    sizes = np.array(list(report.dataset.image_sizes))[boxes.image]
    corners = unpacked(found["boxes"]).reshape(-1, 4) / ONE * sizes[:, [1, 0, 1, 0]]
    assert np.abs(corners[:, 0] - boxes.boxes[:, 0].clip(max=sizes[:, 1])).max() < 0.01
    assert np.abs(corners[:, 3] - (boxes.boxes[:, 1] + boxes.boxes[:, 3]).clip(max=sizes[:, 0])).max() < 0.01
    kinds = np.bincount(unpacked(found["kinds"]), minlength=6)
    assert kinds.tolist() == [analysis.match.right.sum(), *analysis.errors.counts[:5]]
    # The object of a correct box is that of the match, counted in its photo from 1.
    right = analysis.match.right
    first = np.searchsorted(analysis.boxes.truth.image, boxes.image)
    assert (unpacked(found["objects"])[right] == (analysis.match.truth - first + 1)[right]).all()


def test_photos_lie_beside_the_page(report: Any) -> None:
    for number, (height, width) in enumerate(report.dataset.image_sizes):
        with Image.open(report.page.parent / "photos" / f"{number:06d}.jpg") as photo:
            assert photo.size == (width, height)


def test_a_photo_that_cannot_be_read_is_named_and_left_out(report: Any, tmp_path: Path) -> None:
    broken = Path(report.dataset.image_paths[3])
    content = broken.read_bytes()
    broken.write_bytes(b"no image")
    try:
        page, problems = write_report(
            tmp_path, "broken", report.dataset, [Evaluated("one.pth", {}, report.analyses[0])]
        )
    finally:
        broken.write_bytes(content)
    assert len(problems) == 1
    assert broken.name in problems[0]
    assert len(list((tmp_path / "photos").iterdir())) == 19
    assert len(data_of(page)["files"]) == 20


def test_of_equally_good_thresholds_the_highest_is_taken() -> None:
    thresholds = np.array([0.0, 0.5, 1.0])
    assert best_threshold(np.array([0.3, 0.3, 0.0]), thresholds) == 0.5
    assert best_threshold(np.array([np.nan, np.nan, 0.2]), thresholds) == 1.0
    assert best_threshold(np.full(3, np.nan), thresholds) == 0.5
    assert best_threshold(np.zeros(3), thresholds) == 0.5


def many(images: int, classes: int, boxes: int) -> tuple[Any, list[dict[str, Any]], Any]:
    """A ground truth, results with `boxes` per image, and a data set for the page."""
    generator = np.random.default_rng(0)

    def entries(number: int) -> list[dict[str, Any]]:
        places = generator.uniform(1, 300, (images * number, 4)).round(1).tolist()
        categories = generator.integers(1, classes + 1, images * number).tolist()
        scores = generator.beta(1, 6, images * number).tolist()
        rows = enumerate(zip(places, categories, scores, strict=True))
        return [
            {"image_id": i // number + 1, "category_id": category, "bbox": box, "score": score, "id": i}
            for i, (box, category, score) in rows
        ]

    truth = {
        "images": [{"id": i + 1} for i in range(images)],
        "categories": [{"id": k + 1, "name": f"a class with a long name {k}"} for k in range(classes)],
        "annotations": entries(10),
    }
    dataset = SimpleNamespace(
        image_sizes=[(480, 640)] * images, image_paths=[f"/photos/{i:012d}.jpg" for i in range(images)]
    )
    return truth, entries(boxes), dataset


def assert_lowest_scores_are_left_out(page: Path, results: list[dict[str, Any]], kept: int) -> None:
    data = data_of(page)
    assert unpacked(data["runs"][1]["found"]["counts"]).sum() == kept
    (remark,) = data["remarks"]
    assert "The page has no boxes with a score of" in remark
    score = np.sort([result["score"] for result in results])[::-1]
    assert score[kept] < data["lowest"] <= score[kept] + 0.011


def test_of_too_many_boxes_the_lowest_scores_are_left_out_and_that_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("parts.report.report.MOST_BOXES", 1000)
    truth, results, dataset = many(20, 3, 40)
    evaluated = [Evaluated("one", {}, analyse(truth, results))] * 2
    page = write_page(contents_of("many", dataset, evaluated, np.arange(20), list(range(20))), tmp_path)
    assert_lowest_scores_are_left_out(page, results, 500)


@pytest.mark.slow
def test_5000_photos_and_1203_classes_of_two_detectors_take_less_than_5_mb(tmp_path: Path) -> None:
    truth, results, dataset = many(5000, 1203, 40)
    evaluated = [Evaluated("one", {}, analyse(truth, results))] * 2
    indices = np.arange(5000)
    page = write_page(contents_of("many", dataset, evaluated, indices, indices.tolist()), tmp_path)
    assert page.stat().st_size < 5e6
    assert_lowest_scores_are_left_out(page, results, 50_000)


def test_kinds_are_those_of_the_analysis(report: Any) -> None:
    assert ("correct", *report.analyses[0].errors.names) == KINDS


@pytest.mark.parametrize("photos", [1, 7])
def test_of_too_many_photos_some_are_shown_and_that_is_said(
    report: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, photos: int
) -> None:
    monkeypatch.setattr("parts.report.report.MOST_PHOTOS", photos)
    page, _ = write_report(tmp_path, "some", report.dataset, [Evaluated("one", {}, report.analyses[0])])
    data = data_of(page)
    assert len(data["files"]) == photos == len(list((tmp_path / "photos").iterdir()))
    assert f"{photos} of 20 photos" in data["remarks"][0]
