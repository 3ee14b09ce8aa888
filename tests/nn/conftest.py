"""Small models, so that a test of the whole network takes a fraction of a second."""

import copy
import functools

import pytest
import torch

from sparse_rcnn import build_sparse_rcnn

SMALL = {
    "backbone": "resnet18",
    "num_classes": 3,
    "num_proposals": 6,
    "num_stages": 2,
    "hidden_dim": 16,
    "dynamic_dim": 4,
    "feedforward_dim": 24,
    "num_heads": 2,
    "pool_size": 3,
    "proposal_init": "random",
    "backbone_norm": "group",
    "backbone_weights": None,
}


@functools.lru_cache(maxsize=4)
def build_once(changes):
    torch.manual_seed(0)
    return build_sparse_rcnn(**{**SMALL, **dict(changes)})


@pytest.fixture
def build_small():
    """A function from what differs from a small size to a seeded model, a new one with each call."""

    def build(**changes):
        # Copying takes a tenth of the time of initialising.
        model = copy.deepcopy(build_once(tuple(sorted(changes.items()))))
        torch.manual_seed(0)
        return model

    return build


@pytest.fixture
def batch():
    """Two images of different sizes, padded to one batch."""
    generator = torch.Generator().manual_seed(1)
    images = torch.zeros(2, 3, 64, 96, dtype=torch.uint8)
    images[0] = torch.randint(0, 256, (3, 64, 96), generator=generator)
    images[1, :, :50, :70] = torch.randint(0, 256, (3, 50, 70), generator=generator)
    return images, torch.tensor([[64, 96], [50, 70]])
