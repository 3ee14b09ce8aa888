"""What tests of the inference share."""

import torch


def assert_same(found, expected):
    """To the digit."""
    for name in ("boxes", "scores", "labels"):
        assert torch.equal(getattr(found, name), getattr(expected, name)), name
    assert found.image_size == expected.image_size
