"""evaluate.py --report --against: what happens if the second detector fails, after hours of the first."""

from argparse import Namespace
from pathlib import Path
from typing import Any

import evaluate
import pytest
import torch
from parts.report.report import Evaluated
from torch import Tensor

from sparse_rcnn.data import ShapesDataset, evaluation_transform
from sparse_rcnn.inference import Detector, NotFiniteError

OPTIONS = {"checkpoint": "one.pth", "against": "other.pth", "split": "val", "max_detections": None}
READING = {"batch_size": 1, "workers": 0, "evaluator": "pycocotools"}


@pytest.fixture
def dataset(tmp_path: Path) -> ShapesDataset:
    return ShapesDataset(
        tmp_path / "shapes",
        "val",
        3,
        image_size=64,
        transform=evaluation_transform(64, 64),
        allow_missing=True,
    )


def report(dataset: ShapesDataset, detect: Any, monkeypatch: pytest.MonkeyPatch) -> list[Evaluated]:
    """What report() puts into the page, of a first detector that finds nothing, and of `detect`."""
    pages: list[list[Evaluated]] = []

    def keep(directory: Path, title: str, data: Any, evaluated: list[Evaluated]) -> tuple[Path, list[str]]:
        pages.append(evaluated)
        return directory, []

    monkeypatch.setattr(evaluate, "write_report", keep)
    arguments = Namespace(**OPTIONS, **READING, data=str(dataset.image_paths[0]), report="page")
    ids = list(dataset.category_ids)
    figures = evaluate.evaluate(arguments, dataset, [], {}, ids)
    other = Detector(detect, dataset.class_names, 64, 64), [*ids]
    try:
        evaluate.report(arguments, dataset, {}, ids, figures, [], other)
    finally:
        (page,) = pages
    return page


def find_a_box(images: Tensor, image_sizes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return torch.tensor([[[0.0, 0.0, 32.0, 32.0]]]), torch.ones(1, 1), torch.zeros(1, 1, dtype=torch.int64)


def test_an_image_that_gets_lost_on_the_way_counts_for_neither(
    dataset: ShapesDataset, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path(dataset.image_paths[2]).unlink()
    one, other = report(dataset, find_a_box, monkeypatch)
    assert [one.name, other.name] == ["one.pth", "other.pth"]
    images = dataset.image_ids[:2]
    assert one.analysis.boxes.image_ids.tolist() == other.analysis.boxes.image_ids.tolist() == images
    assert "left out of the report: " in capsys.readouterr().out


def test_the_report_of_the_first_is_written_if_the_other_fails(
    dataset: ShapesDataset, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(images: Tensor, image_sizes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        raise NotFiniteError("the weights in other.pth are damaged")

    with pytest.raises(
        ValueError, match=r"the report is of one.pth alone: .*the weights in other.pth are damaged"
    ):
        report(dataset, fail, monkeypatch)
    assert "report written to page" in capsys.readouterr().out
