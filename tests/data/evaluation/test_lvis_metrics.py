"""LVIS's AP against LVIS's package: its stored figures (reference/evaluation.py), and live."""

import json

import numpy as np
import pytest
from random_detections import random_detections
from reference.evaluation import HERE, lvis_figures, lvis_scene, unpacked

from sparse_rcnn.data import DatasetRemark, evaluate_lvis, load_dataset

SCENE = json.loads((HERE / "evaluation.json").read_text())["lvis"]


@pytest.mark.parametrize("most", [300, 20])
def test_equal_to_what_lvis_said(most):
    assert evaluate_lvis(*unpacked(SCENE), most) == pytest.approx(SCENE["figures"][str(most)], abs=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_equal_to_lvis(seed):
    pytest.importorskip("lvis")
    truth, results = lvis_scene(*random_detections(seed, 12, 9, 80, 400), seed)
    assert evaluate_lvis(truth, results) == pytest.approx(lvis_figures(truth, results), abs=1e-12)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"frequency": "x"}, "category 1: field 'frequency' must be one of r, c, f, got 'x'"),
        ({"neg_category_ids": [1, "2"]}, "image 0: field 'neg_category_ids' must be a list of ids"),
    ],
)
def test_wrong_fields_are_named(shared_dir, tmp_path, change, message):
    folder = shared_dir / "cases" / "layouts" / "lvis_v1"
    content = json.loads((folder / "annotations" / "lvis_v1_train.json").read_text())
    content["categories" if "frequency" in change else "images"][0].update(change)
    (tmp_path / "lvis_v1_train.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=message):
        load_dataset(tmp_path / "lvis_v1_train.json", images=folder)


def test_a_data_set_in_lvis_files(shared_dir):
    dataset = load_dataset(shared_dir / "cases" / "layouts" / "lvis_v1", "train")
    truth = dataset.coco_ground_truth()
    assert [image["not_exhaustive_category_ids"] for image in truth["images"]] == [[2], [2], [2]]
    assert [category["frequency"] for category in truth["categories"]] == ["r", "r"]
    results = [{**entry, "score": 0.9} for entry in truth["annotations"]]
    figures = evaluate_lvis(dataset, results)
    assert figures["APr"] == figures["AP"] == pytest.approx(1)
    assert np.isnan([figures["APc"], figures["APf"]]).all()
    # Class 2 is not fully annotated, so a detection on background is no error. For class 1, it is one.
    elsewhere = [{**entry, "bbox": [0.0, 0.0, 3.0, 3.0], "score": 0.95} for entry in truth["annotations"]]
    of_two = [entry for entry in elsewhere if entry["category_id"] == 2]
    assert evaluate_lvis(dataset, [*results, *of_two])["AP"] == pytest.approx(1)
    assert evaluate_lvis(dataset, [*results, *elsewhere])["AP"] < 0.9
    with pytest.warns(DatasetRemark, match="5 boxes are of classes that were not asked for"):
        chosen = load_dataset(shared_dir / "cases" / "layouts" / "lvis_v1", "train", class_names=["zucchini"])
    with pytest.raises(ValueError, match="image 0 has no 'neg_category_ids', which LVIS's AP needs"):
        evaluate_lvis(chosen, [])
