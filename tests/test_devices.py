"""Nothing is made on a wrong device. Fake tensors show this: they have a device but no data."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from sparse_rcnn import build_sparse_rcnn
from sparse_rcnn.loss import set_prediction_loss
from sparse_rcnn.nn import EndToEndDetector, detector
from sparse_rcnn.ops import select_detections


@pytest.mark.skipif(
    torch.version.cuda is None, reason="a build of torch without CUDA cannot fake CUDA tensors"
)
@pytest.mark.parametrize("sizes_device", ["cpu", "cuda"])
def test_model_loss_and_detections_stay_on_the_device(
    sizes_device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        detector, "check_image_sizes", lambda *_: None
    )  # looks at values, which are none here
    with FakeTensorMode():
        with torch.device("cuda"):
            model = build_sparse_rcnn(
                "resnet10",
                num_classes=3,
                num_proposals=5,
                num_stages=2,
                hidden_dim=16,
                dynamic_dim=4,
                feedforward_dim=16,
                backbone_norm="group",
                backbone_weights=None,
            )
            images = torch.zeros(2, 3, 64, 64, dtype=torch.uint8)
            boxes, labels = torch.zeros(2, 3, 4), torch.zeros(2, 3, dtype=torch.int64)
            valid, image_sizes = torch.ones(2, 3, dtype=torch.bool), torch.ones(2, 2, dtype=torch.int64)
        with torch.no_grad():
            predictions = model(images, image_sizes.to(sizes_device))
            losses = set_prediction_loss(
                predictions.logits, predictions.boxes, boxes, labels, valid, image_sizes, valid.sum()
            )
            detections = select_detections(predictions.logits[-1], predictions.boxes[-1], image_sizes)
            detections += EndToEndDetector(model)(images, image_sizes.to(sizes_device))
    results = (*predictions, *losses, *detections)
    assert {result.device.type for result in results} == {"cuda"}
