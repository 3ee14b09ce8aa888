"""The confusion matrix against supervision's, and the effect of crowd regions."""

import warnings

import numpy as np
import pytest
from random_detections import random_detections

from sparse_rcnn.data import analyse

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # that it is slower without OpenCV
    supervision = pytest.importorskip("supervision")


def corners(entries):
    return np.array([entry["bbox"] for entry in entries]).reshape(-1, 4) @ np.array(
        [[1, 0, 1, 0], [0, 1, 0, 1], [0, 0, 1, 0], [0, 0, 0, 1]]
    )


def of_supervision(truth, results, iou, threshold):
    """Each image's boxes as supervision takes them: [M, 5] and [N, 6]."""
    targets, predictions = [], []
    for image in truth["images"]:
        objects = [entry for entry in truth["annotations"] if entry["image_id"] == image["id"]]
        found = [entry for entry in results if entry["image_id"] == image["id"]]
        label_of, label_found = (
            [[entry["category_id"] // 2] for entry in entries] for entries in (objects, found)
        )
        scores = [[entry["score"]] for entry in found]
        targets.append(np.hstack([corners(objects), np.reshape(label_of, (-1, 1))]))
        predictions.append(
            np.hstack([corners(found), np.reshape(label_found, (-1, 1)), np.reshape(scores, (-1, 1))])
        )
    names = [category["name"] for category in truth["categories"]]
    return supervision.ConfusionMatrix.from_tensors(predictions, targets, names, threshold, iou).matrix


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("iou", "threshold"), [(0.5, 0.3), (0.75, 0.0)])
def test_equal_to_supervision(seed, iou, threshold):
    truth, results = random_detections(seed, detections=300)
    confusion = analyse(truth, results, iou, threshold).confusion
    assert confusion.matrix.tolist() == of_supervision(truth, results, iou, threshold).tolist()
    assert (confusion.iou, confusion.threshold) == (iou, threshold)
    assert np.trace(confusion.matrix) > 5


def test_a_detection_in_a_crowd_region_of_its_class_is_left_out():
    crowd = {"image_id": 1, "category_id": 1, "bbox": [0.0, 0.0, 90.0, 90.0], "iscrowd": 1}
    dog = {"image_id": 1, "category_id": 2, "bbox": [10.0, 10.0, 20.0, 20.0]}
    truth = {
        "images": [{"id": 1}],
        "annotations": [crowd, dog],
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
    }
    in_crowd = [
        {"image_id": 1, "category_id": 1, "bbox": box, "score": 0.9}
        for box in ([40.0, 40.0, 20.0, 20.0], [10.0, 10.0, 20.0, 20.0])
    ]
    assert analyse(truth, in_crowd).confusion.matrix.tolist() == [[0, 0, 0], [0, 0, 1], [0, 0, 0]]
    other_class = [{**entry, "category_id": 2} for entry in in_crowd]
    assert analyse(truth, other_class).confusion.matrix.tolist() == [[0, 0, 0], [0, 1, 0], [0, 1, 0]]
