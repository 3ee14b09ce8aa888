"""Kinds of error against TIDE's package: its stored figures (reference/evaluation.py), and live."""

import json

import numpy as np
import pytest
from random_detections import random_detections
from reference.evaluation import HERE, tide_figures, unpacked

from sparse_rcnn.data import analyse
from sparse_rcnn.data.evaluation import average_precision

SCENES = json.loads((HERE / "evaluation.json").read_text())["tide"]


@pytest.fixture(autouse=True)
def recalls_of_tide(monkeypatch):
    """TIDE has 0.07 where COCO has 0.07000000000000001: at 7 of 100 objects, the precisions differ."""
    monkeypatch.setattr(average_precision, "RECALLS", np.arange(101) / 100)


def assert_equal_to_tide(truth, results, figures):
    analysis = analyse(truth, results)
    assert analysis.ap50 == pytest.approx(figures["ap"], abs=1e-12)
    assert analysis.errors.gains == pytest.approx(figures["gains"], abs=1e-12)
    # TIDE also counts detections in crowd regions.
    excused = np.array(figures["counts"]) - analysis.errors.counts
    assert (excused[:5] >= 0).all()
    assert excused.sum() <= analysis.match.ignored.sum()
    assert excused[5] == 0
    assert analysis.errors.class_counts.sum(0).tolist() == analysis.errors.counts.tolist()


@pytest.mark.parametrize("scene", SCENES, ids=["without crowds", "with crowds"])
def test_equal_to_what_tide_said(scene):
    assert_equal_to_tide(*unpacked(scene), scene["figures"])
    assert min(scene["figures"]["counts"]) > 0


@pytest.mark.parametrize("seed", range(6))
def test_equal_to_tide(seed):
    pytest.importorskip("tidecv")
    truth, results = random_detections(seed, detections=60 + 60 * seed, crowd_share=0.1 * (seed % 2))
    assert_equal_to_tide(truth, results, tide_figures(truth, results))
