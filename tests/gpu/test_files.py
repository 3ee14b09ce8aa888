"""Exported files on the device, written there or on a CPU: the detections are those of eager."""

import pytest
import torch
from small_model import build_small_model, random_batch

from sparse_rcnn import load_detector
from sparse_rcnn.inference.export import SUFFIXES, write_exported
from sparse_rcnn.inference.export_check import largest_differences
from sparse_rcnn.nn import EndToEndDetector, fold_first_stage, fold_norms

METADATA = {"class_names": ["a", "b", "c"], "shortest_side": 64, "longest_side": 96, "max_detections": 10}


@pytest.fixture
def detector():
    model = build_small_model(backbone="resnet10", backbone_norm="frozen").eval()
    return EndToEndDetector(fold_first_stage(fold_norms(model)), 10).requires_grad_(False)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "written_on"),
    [("pt2", "cpu"), ("pt2", "device"), ("aoti", "device"), ("onnx", "cpu"), ("torchscript", "cpu")],
)
def test_file(kind, written_on, detector, device, tmp_path, record_property):
    if device.type == "cpu" and kind != "torchscript":  # the cheapest format shows that this test works
        pytest.skip("tests/examples/test_export.py has it on a CPU")
    place = device if written_on == "device" else torch.device("cpu")
    path = tmp_path / f"detector{SUFFIXES[kind]}"
    write_exported(path, kind, detector.to(place), place, METADATA)
    detector.to(device)
    loaded = load_detector(str(path), device)
    for size in ((2, 64, 96), (3, 96, 128)):
        batch = [part.to(device) for part in random_batch(*size)]
        with torch.inference_mode():
            score, box, _ = largest_differences(detector(*batch), loaded.detect(*batch))
        record_property(f"largest difference of a score, {size}", f"{score:.1e}")
        assert score <= 1e-4
        assert box <= 1e-2
