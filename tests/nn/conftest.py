"""Small models and batches."""

import pytest
import torch
from small_model import build_small_model


@pytest.fixture
def build_small():
    """A function of changed options. Each call returns a new small model with the same seed."""
    return build_small_model


@pytest.fixture
def batch():
    """Two images of different sizes, padded to one batch."""
    generator = torch.Generator().manual_seed(1)
    images = torch.zeros(2, 3, 64, 96, dtype=torch.uint8)
    images[0] = torch.randint(0, 256, (3, 64, 96), generator=generator)
    images[1, :, :50, :70] = torch.randint(0, 256, (3, 50, 70), generator=generator)
    return images, torch.tensor([[64, 96], [50, 70]])
