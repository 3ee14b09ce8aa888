"""A whole number may be an int, an integer of NumPy or a tensor of one integer, with the same result."""

import json

import numpy as np
import pytest
import torch

from sparse_rcnn.data import (
    Draw,
    SeededDataset,
    ShapesDataset,
    TrainingSampler,
    coco_results,
    collate,
    evaluation_transform,
    load_dataset,
    training_transform,
)
from sparse_rcnn.data.evaluation.flat_boxes import chosen_ids
from sparse_rcnn.ops import Detections
from sparse_rcnn.ops.argument_checks import whole_number

KINDS = [int, np.int64, np.uint8, torch.tensor]


@pytest.mark.parametrize("value", [1.0, True, torch.tensor(True), torch.tensor([1, 2]), None, "2"])
def test_what_is_no_whole_number_is_named(value):
    with pytest.raises(ValueError, match=r"^count must be a whole number, got "):
        whole_number("count", value)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings("ignore::sparse_rcnn.data.DatasetRemark")
def test_data(tmp_path, kind):
    sizes = {"num_images": kind(3), "image_size": kind(48), "seed": kind(1), "max_objects": kind(2)}
    shapes = ShapesDataset(tmp_path, **sizes)
    assert json.loads((tmp_path / "train2017" / "shapes.json").read_text())["max_objects"] == 2
    expected = ShapesDataset(tmp_path, num_images=3, image_size=48, seed=1, max_objects=2)
    held_out, usual = (load_dataset(tmp_path, "val", split_seed=seed).image_paths for seed in (kind(5), 5))
    assert held_out == usual
    for transform in (evaluation_transform(kind(32), kind(64)), training_transform([kind(32)], kind(64))):
        shapes.transform = transform
        assert shapes[kind(0)][0].shape == (3, 32, 32)
    seeded, plain = SeededDataset(shapes, kind(7)), SeededDataset(shapes, 7)
    samples = [seeded[Draw(kind(1), kind(0))], plain[Draw(1, 0)]]
    assert torch.equal(samples[0][0], samples[1][0])
    assert collate(samples, kind(40), kind(8)).images.shape == (2, 3, 40, 40)
    options = {"batch_size": 2, "seed": 3, "group_size": 1, "start": 4, "rank": 1, "world_size": 2}
    samplers = [
        TrainingSampler(expected.image_sizes, **{key: to(value) for key, value in options.items()})
        for to in (kind, int)
    ]
    assert next(iter(samplers[0])) == next(iter(samplers[1]))
    detections = Detections(torch.tensor([[[1.0, 2, 3, 4]]]), torch.tensor([[0.5]]), torch.tensor([[0]]))
    assert json.loads(json.dumps(coco_results(detections, [kind(9)], [kind(17)])))[0]["image_id"] == 9
    assert chosen_ids([kind(2)], [{"id": 2}, {"id": 3}], "image_ids") == [2]
