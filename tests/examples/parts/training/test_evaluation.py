"""The evaluation of a run. An unreadable image costs only itself."""

from argparse import Namespace
from functools import partial
from pathlib import Path

import pytest
import torch
from parts.training.evaluation import Evaluation, metrics_of
from parts.training.processes import Processes
from parts.training.random_states import random_states
from parts.training.run_log import RunLog
from parts.training.stop import Stop, StopRequestedError
from parts.training.training_state import TrainingState
from small_model import build_small_model

from sparse_rcnn.data import ShapesDataset, evaluate_coco, evaluation_transform
from sparse_rcnn.data.formats.object_counts import objects_an_image
from sparse_rcnn.nn import EndToEndDetector

CPU = torch.device("cpu")
RECIPE = {
    **{"eval_size": 64, "max_size": 64, "eval_batch_size": 2, "eval_interval": 5, "workers": 0},
    **{
        "iterations": 20,
        "ema": 0.0,
        "clip_norm": 1.0,
        "learning_rate": 1e-4,
        "backbone_multiplier": 1.0,
        "weight_decay": 0.0,
    },
    **{"precision": "fp32", "schedule": "cosine", "warmup": 0, "steps": [], "minutes": None},
    **{"data": None, "shapes_dir": "shapes"},
}


@pytest.fixture(scope="module")
def state() -> TrainingState:
    model = build_small_model(backbone="resnet10", num_classes=6)
    return TrainingState(model, Namespace(**RECIPE), CPU)


def evaluation_of(state: TrainingState, directory: Path) -> Evaluation:
    dataset = ShapesDataset(
        directory / "shapes", "val", 5, transform=evaluation_transform(64, 64), allow_missing=True
    )
    (directory / "run").mkdir(parents=True)
    run_log = RunLog(None, 0, 20, 0)
    arguments = Namespace(**RECIPE, output=str(directory / "run"))
    return Evaluation(arguments, state, dataset, Processes(0, 0, 1, CPU), run_log, Stop())


@pytest.mark.parametrize("damage", ["gone", pytest.param("cut off", marks=pytest.mark.slow)])
def test_what_cannot_be_read_is_left_out_named_and_counted(
    state: TrainingState, tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: str
) -> None:
    ShapesDataset(tmp_path / "shapes", "val", 5)
    broken = tmp_path / "shapes" / "val2017" / f"{2:012d}.jpg"
    if damage == "gone":
        broken.unlink()
    else:
        broken.write_bytes(broken.read_bytes()[:500])
    evaluation = evaluation_of(state, tmp_path)
    found = evaluation.run(5)
    assert (found.num_images, found.metrics["left_out"]) == (4, 1)
    said = capsys.readouterr().out
    assert "iteration 5: 1 of 5 validation images cannot be read, and are left out of the evaluation" in said
    assert str(broken) in said
    assert len(found.pictures) == 4
    assert [entry["iteration"] for entry in evaluation.run_log.entries if "AP" in entry] == [5]
    assert state.model.training
    evaluation.write_report(found)
    assert "no object has a score of 0.3 or more; the best has 0.1 (circle)" in capsys.readouterr().out


def test_more_objects_than_detections_are_said(
    state: TrainingState, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluation = evaluation_of(state, tmp_path)
    assert capsys.readouterr().out == ""
    counts = objects_an_image(evaluation.dataset)
    monkeypatch.setattr(
        "parts.training.evaluation.EndToEndDetector", partial(EndToEndDetector, max_detections=1)
    )
    evaluation_of(state, tmp_path / "again")
    said = f"val: {(counts > 1).sum()} images have more than 1 objects, up to {counts.max()}. "
    assert capsys.readouterr().out.startswith(said)


def test_detections_that_are_not_finite_have_no_figures_and_do_not_end_a_run(
    state: TrainingState, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluation = evaluation_of(state, tmp_path)
    weight = next(state.model.head.parameters()).data
    kept, weight[0] = weight[0].clone(), float("nan")
    found = evaluation.run(5)
    weight[0] = kept
    assert found.problem.endswith("not finite: the weights in this run are damaged or diverged")
    assert all(found.metrics[name] != found.metrics[name] for name in ("AP", "AP50"))
    assert f"iteration 5: no figures: {evaluation.dataset.image_paths[0]}, " in capsys.readouterr().out
    assert (found.pictures, state.model.training) == ({}, True)


def test_figures_are_those_of_the_images_that_are_left(tmp_path: Path) -> None:
    dataset = ShapesDataset(tmp_path, "val", 5)
    truth = dataset.coco_ground_truth()
    # All objects except those of image 3 are found.
    results = [
        {key: entry[key] for key in ("image_id", "category_id", "bbox")} | {"score": 0.9}
        for entry in truth["annotations"]
        if entry["image_id"] != 3
    ]
    assert metrics_of(dataset, results, [])["AP"] == evaluate_coco(dataset, results)["AP"] < 0.99
    assert metrics_of(dataset, results, [3])["AP"] == pytest.approx(1)
    assert all(value != value for value in metrics_of(dataset, [], dataset.image_ids).values())


def test_looking_leaves_the_random_generators_as_they_were(state: TrainingState, tmp_path: Path) -> None:
    evaluation = evaluation_of(state, tmp_path)
    before = random_states(CPU)
    evaluation.run(5)
    after = random_states(CPU)
    assert torch.equal(after.pop("torch"), before.pop("torch"))
    assert after == before


def test_a_signal_ends_it(state: TrainingState, tmp_path: Path) -> None:
    evaluation = evaluation_of(state, tmp_path)
    evaluation.stop.signal_name = "SIGTERM"
    with pytest.raises(StopRequestedError):
        evaluation.run(5)
    assert evaluation.run_log.entries == []


def test_it_is_due_in_between_and_again_if_it_was_interrupted(state: TrainingState, tmp_path: Path) -> None:
    evaluation = evaluation_of(state, tmp_path)
    assert [iteration for iteration in range(21) if evaluation.is_due(iteration)] == [5, 10, 15]
    assert evaluation.was_interrupted(10)
    evaluation.run_log.record({"iteration": 10, "AP": 0.5}, "val")
    assert not evaluation.was_interrupted(10)
    assert not evaluation.was_interrupted(11)
