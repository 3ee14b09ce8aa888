"""EndToEndDetector adds the selection of detections to the model."""

import pytest
import torch

from sparse_rcnn.nn import EndToEndDetector
from sparse_rcnn.ops import select_detections


def test_detections_of_the_last_stage(build_small, batch):
    model = build_small().eval()
    images, sizes = batch
    predictions = model(images, sizes)
    expected = select_detections(predictions.logits[-1], predictions.boxes[-1], sizes, 5)
    found = EndToEndDetector(model, max_detections=5)(images, sizes)
    assert type(found) is tuple
    torch.testing.assert_close(found, tuple(expected))


def test_modes_of_the_model_stay_what_they_are(build_small):
    model = build_small().train()
    model.backbone.eval()
    detector = EndToEndDetector(model)
    assert detector.training
    assert model.training
    assert not model.backbone.training
    assert not EndToEndDetector(model.eval()).training


def test_no_detections_are_refused(build_small):
    with pytest.raises(ValueError, match="max_detections must be at least 1, got 0"):
        EndToEndDetector(build_small(), max_detections=0)
