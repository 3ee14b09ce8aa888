"""CrowdHuman's figures against those of the published evaluation (see reference/evaluation.py)."""

import json
import math

import pytest
from random_detections import random_detections
from reference.evaluation import HERE, unpacked

from sparse_rcnn.data import evaluate_crowdhuman, load_dataset

SCENES = json.loads((HERE / "evaluation.json").read_text())["crowdhuman"]


@pytest.mark.parametrize("scene", SCENES, ids=["few detections", "many detections"])
def test_equal_to_the_published_evaluation(scene):
    truth, results = unpacked(scene)
    assert evaluate_crowdhuman(truth, results) == pytest.approx(scene["figures"], abs=1e-12)
    assert evaluate_crowdhuman(truth, results, 5) != pytest.approx(scene["figures"], abs=1e-3)


def test_perfect_detections_on_files(shared_dir):
    dataset = load_dataset(shared_dir / "cases" / "layouts" / "crowdhuman", "val")
    assert dataset.format_name == "CrowdHuman"
    entries = dataset.coco_ground_truth()["annotations"]
    assert any(entry["iscrowd"] for entry in entries)
    results = [{**entry, "score": 0.95} for entry in entries]  # also in the ignored regions
    figures = evaluate_crowdhuman(dataset, results)
    assert figures["mMR"] == pytest.approx(0)
    assert figures["JI"] == pytest.approx(1, abs=1e-5)
    assert evaluate_crowdhuman(dataset, []) == {"AP": 0.0, "mMR": 1.0, "JI": 0.0}


def test_the_assignment_is_the_best_and_not_greedy():
    # The first detection fits both persons. The second fits only the person that the first fits better.
    persons = [[0.0, 0.0, 100.0, 100.0], [0.0, 30.0, 100.0, 100.0]]
    found = [[0.0, 12.0, 100.0, 100.0], [0.0, -20.0, 100.0, 100.0]]
    truth = {
        "images": [{"id": 1, "height": 200, "width": 200}],
        "annotations": [{"image_id": 1, "category_id": 1, "bbox": box} for box in persons],
        "categories": [{"id": 1, "name": "person"}],
    }
    results = [{"image_id": 1, "category_id": 1, "bbox": box, "score": 0.95} for box in found]
    assert evaluate_crowdhuman(truth, results)["JI"] == pytest.approx(1, abs=1e-5)


def test_what_cannot_be_evaluated():
    truth, results = random_detections(classes=2)
    with pytest.raises(ValueError, match="CrowdHuman's figures are of one class, got 2"):
        evaluate_crowdhuman(truth, results)
    del truth["images"][1]["width"]
    with pytest.raises(ValueError, match="image 10 has no 'width', which CrowdHuman's figures need"):
        evaluate_crowdhuman(truth, results, category_ids=[1])
    truth, results = random_detections(classes=1, objects=0)
    assert all(map(math.isnan, evaluate_crowdhuman(truth, results).values()))
