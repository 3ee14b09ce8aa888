"""The other detectors of Table 1 are the published ones. They are called like this library's."""

import sys

import pytest
import torch
from parts.paper.peers import PEERS
from torch import nn

pytestmark = pytest.mark.slow  # they build the published sizes
IMAGES = torch.randint(0, 256, (2, 3, 64, 96), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
SIZES = torch.tensor([[64, 96], [48, 80]])


def build(name: str, device: str = "cpu") -> nn.Module:
    """The same detector in every call. The test is skipped if a package is not installed."""
    if "DETR" in name:
        pytest.importorskip("timm")
        pytest.importorskip("transformers")
    torch.manual_seed(0)
    with torch.device(device):
        return PEERS[name]()


# Millions: DETR's Table 1, Deformable DETR's Table 1, torchvision's list of Faster R-CNN; RetinaNet is
# Detectron2's, 38 million, with 91 classes instead of 80. ResNet-101 adds 18.9.
@pytest.mark.parametrize(
    ("name", "millions"),
    [
        ("RetinaNet-R50", 38.1),
        ("RetinaNet-R101", 57.1),
        ("Faster R-CNN-R50", 41.8),
        ("Faster R-CNN-R101", 60.7),
        ("DETR-R50", 41.5),
        ("DETR-R101", 60.5),
        ("DETR-DC5-R50", 41.5),
        ("DETR-DC5-R101", 60.5),
        ("Deformable DETR-R50", 40.1),
    ],
)
def test_detectors_have_the_published_number_of_parameters(name: str, millions: float) -> None:
    peer = build(name, "meta")
    assert sum(parameter.numel() for parameter in peer.parameters()) / 1e6 == pytest.approx(
        millions, abs=0.06
    )
    assert not peer.training
    assert not any(parameter.requires_grad for parameter in peer.parameters())


def test_every_detector_has_its_number_of_parameters_tested() -> None:
    cases = test_detectors_have_the_published_number_of_parameters.pytestmark[0].args[1]
    assert [name for name, _ in cases] == list(PEERS)


@pytest.mark.parametrize("name", ["RetinaNet-R50", "Faster R-CNN-R50", "DETR-R50", "Deformable DETR-R50"])
def test_images_go_in_and_detections_come_out_whatever_the_padding_holds(name: str) -> None:
    peer = build(name)
    for key, buffer in peer.named_buffers():
        if key.endswith("bn3.weight"):
            buffer.fill_(0.3)  # residual blocks that see their neighbourhood
    if hasattr(peer.model, "score_thresh"):  # with random weights, all scores would be below it
        peer.model.score_thresh = 0.0
    elif hasattr(peer.model, "roi_heads"):
        peer.model.roi_heads.box_predictor.cls_score.bias[7] = 5.0
    boxes, scores, labels = peer(IMAGES, SIZES)
    assert boxes.shape == (2, scores.shape[1], 4)
    assert scores.shape == labels.shape
    assert 50 < scores.shape[1] <= 100
    assert not labels.is_floating_point()
    assert 0 <= scores.min() <= scores.max() <= 1
    other = IMAGES.clone()
    other[1, :, 48:] = 7
    other[1, :, :, 80:] = 255
    for expected, found in zip((boxes, scores, labels), peer(other, SIZES), strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=0)
    floating = peer(IMAGES / 255, SIZES)
    torch.testing.assert_close(floating[1], scores, rtol=1e-4, atol=1e-6)


def test_detr_sees_an_image_in_a_batch_as_it_sees_it_alone() -> None:
    peer = build("DETR-R50")
    masks = []
    peer.model.register_forward_pre_hook(
        lambda _, __, arguments: masks.append(arguments["pixel_mask"]), with_kwargs=True
    )
    in_batch = peer(IMAGES, SIZES)
    alone = peer(IMAGES[1:, :, :48, :80], SIZES[1:])
    torch.testing.assert_close(in_batch[0][1:], alone[0], rtol=0, atol=1e-3)
    torch.testing.assert_close(in_batch[1][1:], alone[1], rtol=0, atol=1e-6)
    expected = torch.zeros(2, 64, 96, dtype=torch.bool)
    expected[0] = True
    expected[1, :48, :80] = True
    assert torch.equal(masks[0].bool(), expected)
    assert masks[1].all()


def test_dc5_has_the_resolution_of_stride_16() -> None:
    images, inside = torch.empty(1, 3, 64, 96, device="meta"), torch.ones(1, 64, 96, device="meta")
    last_levels = [
        build(name, "meta").model.model.backbone(images, inside)[-1][0]
        for name in ("DETR-R50", "DETR-DC5-R50")
    ]
    assert [level.shape for level in last_levels] == [(1, 2048, 2, 3), (1, 2048, 4, 6)]


@pytest.mark.parametrize("name", ["Faster R-CNN-R50", "Faster R-CNN-R101"])
def test_faster_rcnn_keeps_the_size_of_the_images_and_has_proposals_to_work_on(name: str) -> None:
    peer = build(name)
    seen = {}
    peer.model.backbone.register_forward_pre_hook(lambda _, inputs: seen.update(images=inputs[0].shape))
    peer.model.rpn.register_forward_hook(lambda _, __, output: seen.update(proposals=output[0]))
    peer(IMAGES, SIZES)
    assert seen["images"] == IMAGES.shape
    assert min(len(proposals) for proposals in seen["proposals"]) > 100


@pytest.mark.parametrize("missing", ["timm", "transformers"])
def test_a_missing_library_is_named_with_the_way_to_install_it(
    missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    other = {"timm": "transformers", "transformers": "timm"}[missing]
    monkeypatch.setitem(sys.modules, other, torch)  # anything that is there
    with pytest.raises(ImportError, match=rf"{missing}.*pip install '\.\[peers\]'"):
        PEERS["DETR-R50"]()
    with torch.device("meta"):
        PEERS["RetinaNet-R50"]()  # needs neither
