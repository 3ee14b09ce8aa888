"""Messages and places of argument checks. tests/fuzz calls every function with odd arguments."""

import math
import pydoc

import numpy as np
import pytest
import torch
from torchvision.transforms.v2 import functional as F
from torchvision.tv_tensors import BoundingBoxes

from sparse_rcnn import loss, ops

BOX = torch.tensor([[10.0, 20, 30, 60]])
SIZES = torch.tensor([[64, 64]])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ops.box_area("boxes"), "boxes must be a tensor, got str"),
        (lambda: ops.box_area(BOX.bool()), r"boxes must be real numbers .*, got torch.bool"),
        (lambda: ops.paired_iou(BOX, BOX[:, :3]), r"boxes2 must be \[..., 4\], got torch.Size\(\[1, 3\]\)"),
        (
            lambda: ops.paired_iou(BOX.expand(2, 4), BOX.expand(3, 4)),
            "boxes1 and boxes2 must have shapes that",
        ),
        (lambda: ops.clip_boxes(BOX[None], SIZES * 0), r"image_sizes must be .* at least 1 px, got \[0, 0\]"),
        (
            lambda: ops.clip_boxes(BOX[None], SIZES * math.nan),
            r"image_sizes must be .* at least 1 px, got \[nan",
        ),
        (lambda: ops.apply_deltas(BOX, BOX, (2.0, 2.0, 0.0, 1.0)), r"weights\[2\] must be in 1e-06"),
        (lambda: ops.apply_deltas(BOX, BOX, scale_clamp=math.nan), "scale_clamp must be in"),
        (lambda: ops.assign_levels(BOX, 0), "num_levels must be at least 1, got 0"),
        (lambda: ops.assign_levels(BOX, 4.0), "num_levels must be a whole number, got float"),
        (lambda: ops.pyramid_roi_align([BOX], BOX[None]), "pyramid must come from flatten_pyramid, got list"),
        (lambda: ops.shortest_side_resize(0, 5, 32), "height must be at least 1, got 0"),
        (lambda: ops.select_detections(BOX[None], BOX[None], SIZES, True), "max_detections must be a whole"),
        (
            lambda: ops.linear_sum_assignment(BOX, BOX[0]),
            "valid must be bool, got torch.float32: give valid.bool",
        ),
        (lambda: loss.sigmoid_focal_loss(BOX, BOX), "targets must be in 0..1, got 10.0"),
    ],
)
def test_the_argument_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_numbers_of_numpy_are_numbers():
    assert ops.assign_levels(BOX, np.int64(4), np.float32(224)).tolist() == [0]


@pytest.mark.parametrize("layout", ["CXCYWH", "XYWH"])
def test_boxes_of_another_layout_are_refused_with_what_to_call(layout):
    boxes = BoundingBoxes(BOX, format="XYXY", canvas_size=(64, 64))
    assert ops.box_area(boxes).tolist() == [800]
    other = F.convert_bounding_box_format(boxes, new_format=layout)
    with pytest.raises(
        ValueError, match=f"boxes must be XYXY, got {layout}: give .*convert_bounding_box_format"
    ):
        ops.box_area(other)
    if layout == "CXCYWH":
        assert torch.equal(ops.cxcywh_to_xyxy(other).as_subclass(torch.Tensor), BOX)


def test_help_on_the_assignment_is_its_own():
    shown = pydoc.render_doc(ops.linear_sum_assignment, renderer=pydoc.plaintext)
    assert "Assigns one row to each column, so that the sum of the costs is smallest." in shown
