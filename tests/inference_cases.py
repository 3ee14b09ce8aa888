"""Shared by the tests of inference."""

import torch

# Of detect.py.
OPTIONS = {
    "threshold": 0.0,
    "classes": None,
    "batch_size": 1,
    "exif_orientation": "apply",
    "tile": None,
    "overlap": 0.2,
    "augment": False,
    "save_txt": False,
    "crops": False,
    "json": False,
    "frames": False,
    "max_detections": None,
}


def assert_same(found, expected):
    """To the digit."""
    for name in ("boxes", "scores", "labels"):
        assert torch.equal(getattr(found, name), getattr(expected, name)), name
    assert found.image_size == expected.image_size
