"""The reference cases: a model, images and targets that are functions of names, and published figures."""

from typing import NamedTuple

import numpy as np
import torch
from small_model import PSEUDO, REFERENCE, build_published_model
from torch import Tensor

from sparse_rcnn import SparseRCNN

LOGITS = 1e-4
BOXES = 2e-3  # px


class Facts(NamedTuple):
    image_sizes: tuple[tuple[int, int], tuple[int, int]]  # padded to the first, a multiple of 32
    target_counts: tuple[int, int] | None
    num_heads: int  # no shape tells
    num_parameters: int
    stages_of_image_scale: int  # how many stages keep their boxes near the image
    score_tolerance: float


FACTS = {
    "small": Facts(((128, 160), (96, 128)), (4, 2), 4, 24_000_000, 3, 1e-5),
    "r50_100": Facts(((224, 320), (192, 256)), (5, 3), 8, 106_000_000, 6, 1e-5),
    # Its third stage (boxes of 785 px) differs by 1.0e-3 to 1.8e-3 px, depending on the instruction set.
    "mmdet_r50_100": Facts(((224, 320), (192, 256)), None, 8, 106_000_000, 2, 3e-4),
}


class Case(NamedTuple):
    name: str
    facts: Facts
    figures: dict[str, np.ndarray]
    model: SparseRCNN
    images: Tensor
    image_sizes: Tensor

    def tensor(self, key: str) -> Tensor:
        return torch.from_numpy(self.figures[key])


class Targets(NamedTuple):
    boxes: Tensor
    labels: Tensor
    valid: Tensor


def load_case(name: str) -> Case:
    facts = FACTS[name]
    model = build_published_model(name, facts.num_heads)
    images = torch.zeros(2, 3, *facts.image_sizes[0], dtype=torch.uint8)
    for index, (height, width) in enumerate(facts.image_sizes):
        image = PSEUDO["pseudo_image"](f"{name}.image{index}", height, width)
        images[index, :, :height, :width] = torch.from_numpy(image).to(torch.uint8)
    with np.load(REFERENCE / f"{name}.npz") as file:
        figures = dict(file)
    return Case(name, facts, figures, model, images, torch.tensor(facts.image_sizes))


def make_targets(case: Case) -> Targets:
    counts = case.facts.target_counts
    boxes = torch.zeros(2, max(counts), 4)
    labels = torch.zeros(2, max(counts), dtype=torch.int64)
    valid = torch.zeros(2, max(counts), dtype=torch.bool)
    num_classes = case.figures["logits"].shape[-1]
    for index, ((height, width), count) in enumerate(zip(case.facts.image_sizes, counts, strict=True)):
        values = PSEUDO["pseudo_target"](f"{case.name}.target{index}", height, width, count, num_classes)
        boxes[index, :count], labels[index, :count] = map(torch.from_numpy, values)
        valid[index, :count] = True
    return Targets(boxes, labels, valid)


def extents(boxes: Tensor) -> Tensor:
    """The largest of a box's sides and coordinates: what its rounding is relative to."""
    return torch.maximum((boxes[..., 2:] - boxes[..., :2]).amax(-1), boxes.abs().amax(-1))
