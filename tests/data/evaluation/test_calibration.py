"""Reliability against torchmetrics' calibration error and confidence curves."""

import numpy as np
import pytest
import torch
from random_detections import random_detections

from sparse_rcnn.data import analyse


@pytest.mark.slow  # for the import of torchmetrics
@pytest.mark.parametrize(("seed", "crowd_share"), [(0, 0.0), (1, 0.2)])
def test_equal_to_torchmetrics(seed, crowd_share):
    torchmetrics = pytest.importorskip("torchmetrics")
    analysis = analyse(*random_detections(seed, detections=400, crowd_share=crowd_share))
    counted = ~analysis.match.ignored
    scores = torch.from_numpy(analysis.boxes.found.score[counted])
    right = torch.from_numpy(analysis.match.right[counted].astype(np.int64))
    expected = torchmetrics.functional.classification.binary_calibration_error(scores, right, n_bins=10)
    assert analysis.calibration.error == pytest.approx(float(expected), abs=1e-6)
    assert analysis.calibration.error > 0.05

    from_score = torch.from_numpy(analysis.overall_curves.thresholds)
    precision, _, _ = torchmetrics.functional.classification.binary_precision_recall_curve(
        scores, right, thresholds=from_score
    )
    known = ~np.isnan(analysis.overall_curves.precision)
    np.testing.assert_allclose(
        analysis.overall_curves.precision[known], precision[:-1].numpy()[known], atol=1e-6
    )


def test_by_hand():
    truth = {
        "images": [{"id": 1}],
        "annotations": [{"image_id": 1, "category_id": 1, "bbox": [0.0, 0.0, 9.0, 9.0]}],
        "categories": [{"id": 1, "name": "cat"}],
    }
    right = {"image_id": 1, "category_id": 1, "bbox": [0.0, 0.0, 9.0, 9.0], "score": 1.0}
    wrong = [{**right, "bbox": [50.0, 50.0, 9.0, 9.0], "score": score} for score in (0.9, 0.3)]
    found = analyse(truth, [right, *wrong]).calibration
    assert found.detections.tolist() == [0, 0, 0, 1, 0, 0, 0, 0, 0, 2]
    assert found.right[[3, 9]].tolist() == [0.0, 0.5]
    assert found.score[[3, 9]].tolist() == pytest.approx([0.3, 0.95])
    assert found.error == pytest.approx((0.3 + 2 * 0.45) / 3)
