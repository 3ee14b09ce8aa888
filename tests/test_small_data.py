"""Small data learns from random initialisation."""

import pytest
import torch
from parts.training.training_step import TrainingStep
from torch.utils.data import DataLoader, Subset

from sparse_rcnn import SparseRCNN, build_sparse_rcnn
from sparse_rcnn.data import ShapesDataset, coco_results, collate, evaluate_coco
from sparse_rcnn.ops import select_detections


def small_model(num_stages: int, proposals: str = "learned") -> SparseRCNN:
    torch.manual_seed(0)
    return build_sparse_rcnn(
        "resnet10",
        num_classes=6,
        num_proposals=20,
        num_stages=num_stages,
        hidden_dim=64,
        dynamic_dim=16,
        feedforward_dim=256,
        proposals=proposals,
        proposal_init="grid",
        backbone_norm="group",
        backbone_weights=None,
    )


def fit(
    model: SparseRCNN, dataset: torch.utils.data.Dataset, steps: int, batch_size: int, rate: float
) -> float:
    """Trains with AdamW, linear warm-up and decay, and clipped gradients. Returns the last loss."""
    optimizer = torch.optim.AdamW(model.parameters(), rate, weight_decay=1e-4, fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1.0, (step + 1) / 20, 2 * (1 - step / steps))
    )
    loader = DataLoader(
        dataset, batch_size, sampler=[i % len(dataset) for i in range(steps * batch_size)], collate_fn=collate
    )
    step = TrainingStep(model)
    loss = torch.tensor(float("nan"))
    for batch in loader:
        loss = step(batch.images, batch.image_sizes, *batch.targets, batch.targets.valid.sum()).losses.total
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    return loss.item()


def average_precision(model: SparseRCNN, dataset: ShapesDataset, indices: list[int]) -> dict[str, float]:
    model.eval()
    results = []
    truth = dataset.coco_ground_truth()
    ids = {dataset.image_ids[index] for index in indices}
    truth["images"] = [image for image in truth["images"] if image["id"] in ids]
    truth["annotations"] = [a for a in truth["annotations"] if a["image_id"] in ids]
    with torch.no_grad():
        for batch in DataLoader(Subset(dataset, indices), 4, collate_fn=collate):
            predictions = model(batch.images, batch.image_sizes)
            detections = select_detections(
                predictions.logits[-1], predictions.boxes[-1], batch.image_sizes, 100, batch.original_sizes
            )
            results += coco_results(detections, batch.image_ids, dataset.category_ids)
    return evaluate_coco(truth, results)


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> ShapesDataset:
    return ShapesDataset(tmp_path_factory.mktemp("shapes"), "train", num_images=40, max_objects=8)


@pytest.fixture(scope="module")
def crowded(shapes: ShapesDataset) -> int:
    """An image with five objects."""
    return next(index for index in range(len(shapes)) if len(shapes[index][1].labels) == 5)


@pytest.mark.slow
@pytest.mark.parametrize("num_stages", [4, pytest.param(1, marks=pytest.mark.release)])
def test_one_image_with_five_objects_overfits(shapes: ShapesDataset, crowded: int, num_stages: int) -> None:
    model = small_model(num_stages)
    fit(model, Subset(shapes, [crowded]), steps=200, batch_size=1, rate=5e-4)
    metrics = average_precision(model, shapes, [crowded])

    assert metrics["AP"] >= 0.9


@pytest.mark.slow
def test_one_image_overfits_in_150_steps_with_proposals_from_the_image(
    shapes: ShapesDataset, crowded: int
) -> None:
    model = small_model(2, "dense")
    fit(model, Subset(shapes, [crowded]), steps=150, batch_size=1, rate=5e-4)
    assert average_precision(model, shapes, [crowded])["AP"] >= 0.95


@pytest.mark.slow
def test_ten_images_are_learnt(shapes: ShapesDataset) -> None:
    model = small_model(4)
    indices = list(range(10))
    fit(model, Subset(shapes, indices), steps=300, batch_size=2, rate=7e-4)
    metrics = average_precision(model, shapes, indices)

    assert metrics["AP50"] >= 0.8
