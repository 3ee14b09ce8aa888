"""A small detector in a file, and a photo."""

import numpy as np
import pytest
import torch
from PIL import Image
from small_model import build_small_model

from sparse_rcnn import load_detector
from sparse_rcnn.nn import ImageSize, save_checkpoint

NAMES = ["cat", "dog", "bird"]


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp("detector") / "mine.pth"
    model = build_small_model(backbone_norm="frozen").eval()
    save_checkpoint(path, model, NAMES, category_ids=[17, 18, 16], image_size=ImageSize(96, 128))
    return path


@pytest.fixture(scope="session")
def detector(checkpoint):
    return load_detector(checkpoint, device="cpu")


@pytest.fixture(scope="session")
def photo(tmp_path_factory):
    """A file [90, 130], in a folder of its own."""
    levels = np.random.default_rng(0).integers(0, 256, (90, 130, 3), dtype=np.uint8)
    path = tmp_path_factory.mktemp("photos") / "photo.png"
    Image.fromarray(levels).save(path)
    return path


@pytest.fixture(scope="session")
def pixels(photo):
    """Of the photo, [3, 90, 130] uint8."""
    return torch.from_numpy(np.asarray(Image.open(photo)).transpose(2, 0, 1).copy())
