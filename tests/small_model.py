"""Small models for fast tests, and a published one."""

import copy
import functools
import json
import runpy
from pathlib import Path

import torch
from torch import Tensor, nn

from sparse_rcnn import SparseRCNN, build_sparse_rcnn
from sparse_rcnn.nn import from_detectron2, from_mmdetection, infer_config

REFERENCE = Path(__file__).resolve().parent / "reference"
PSEUDO = runpy.run_path(str(REFERENCE / "pseudo_random.py"))


class ShortBackbone(nn.Module):
    """A convolution a level: a model of it is traced and compiled in half the time."""

    channels, strides = 16, (4, 8, 16, 32)

    def __init__(self):
        super().__init__()
        self.levels = nn.ModuleList(nn.Conv2d(3 if s == 4 else 16, 16, 3, s, 1) for s in (4, 2, 2, 2))

    def forward(self, images: Tensor) -> list[Tensor]:
        levels: list[Tensor] = []
        for level in self.levels:
            images = level(images).tanh()
            levels.append(images)
        return levels


SMALL = {
    "backbone": "resnet10",
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


@functools.lru_cache(maxsize=16)  # of about 20 MB
def _build_once(changes) -> SparseRCNN:
    torch.manual_seed(0)
    return build_sparse_rcnn(**{**SMALL, **dict(changes)})


def build_small_model(**changes) -> SparseRCNN:
    """A new small model with the given changes. The seed is always the same."""
    # Copying takes a tenth of the time of initialising.
    model = copy.deepcopy(_build_once(tuple(sorted(changes.items()))))
    torch.manual_seed(0)
    return model


def build_published_model(name: str, num_heads: int) -> SparseRCNN:
    """The model of a reference case, with its pseudo-random weights in the published layout."""
    shapes = json.loads((REFERENCE / f"{name}.state_dict.json").read_text())
    checkpoint = {
        key: torch.from_numpy(PSEUDO["pseudo_parameter"](key, tuple(shape)))
        for key, shape in shapes.items()
        if not key.endswith("num_batches_tracked")
    }
    model = build_sparse_rcnn(**infer_config(checkpoint), num_heads=num_heads, backbone_weights=None)
    convert = from_mmdetection if name.startswith("mmdet") else from_detectron2
    model.load_state_dict(convert(checkpoint))
    return model


def random_batch(batch_size: int, height: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Images of different sizes, padded to one batch with anything, and their sizes."""
    generator = torch.Generator().manual_seed(10_000 * batch_size + 100 * height + width)
    images = torch.randint(0, 256, (batch_size, 3, height, width), generator=generator)
    sizes = [[max(1, height - 7 * i), max(1, width - 11 * i)] for i in range(batch_size)]
    return images.to(torch.uint8), torch.tensor(sizes)
