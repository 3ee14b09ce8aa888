"""The example scripts as a user runs them: as processes, on tiny settings."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
TINY = (
    *("--shapes-images", "16", "--iterations", "4", "--batch-size", "4", "--log-interval", "2"),
    *("--hidden-dim", "32", "--num-proposals", "5", "--num-stages", "2", "--eval-interval", "0"),
)


def run(
    script: str, *arguments: str | Path, cwd: Path, launcher: tuple[str, ...] = ()
) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MPLCONFIGDIR": str(cwd)}
    return subprocess.run(
        [sys.executable, *launcher, str(EXAMPLES / script), *map(str, arguments)],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory in which the main job ran on tiny settings."""
    directory = tmp_path_factory.mktemp("train")
    done = run("train.py", *TINY, cwd=directory)
    assert done.returncode == 0, done.stderr
    assert "AP50" in done.stdout
    return directory


def test_training_leaves_everything_to_go_on_and_to_use_the_model(trained: Path) -> None:
    output = trained / "runs" / "shapes"
    checkpoint = torch.load(output / "checkpoint.pth", weights_only=True)
    assert checkpoint["iteration"] == 4
    assert checkpoint["config"]["num_proposals"] == 5
    assert checkpoint["class_names"] == ["circle", "square", "triangle", "star", "ring", "cross"]
    assert checkpoint["category_ids"] == [1, 2, 3, 4, 5, 6]
    assert checkpoint["versions"]["torch"] == str(torch.__version__)
    assert checkpoint["optimizer"]["state"]
    entries = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    assert [entry["iteration"] for entry in entries] == [2, 4, 4]
    assert "AP" in entries[-1]
    for picture in ("training.png", "predictions.png"):
        with Image.open(output / picture) as image:
            assert min(image.size) > 100
    assert len(list((output / "pictures").glob("*.png"))) == 8
    assert list(output.glob("events.out.tfevents.*"))


def test_resuming_keeps_optimizer_schedule_and_place(trained: Path) -> None:
    longer = [value if value != "4" or TINY[i - 1] != "--iterations" else "6" for i, value in enumerate(TINY)]
    done = run("train.py", *longer, "--output", "runs/resumed", cwd=trained)
    assert done.returncode == 0, done.stderr
    source = trained / "runs" / "resumed" / "checkpoint.pth"
    done = run("train.py", *longer, "--iterations", "8", "--output", "runs/resumed", "--resume", cwd=trained)
    assert done.returncode == 0, done.stderr
    assert "resuming at iteration 6" in done.stdout
    checkpoint = torch.load(source, weights_only=True)
    assert checkpoint["iteration"] == 8
    # A reset optimiser would have counted 2 steps.
    assert {int(state["step"]) for state in checkpoint["optimizer"]["state"].values()} == {8}
    assert checkpoint["schedule"]["last_epoch"] == 8


def test_evaluation_of_the_checkpoint_gives_the_same_ap_as_training(trained: Path) -> None:
    output = trained / "runs" / "shapes"
    done = run(
        *("evaluate.py", output / "checkpoint.pth", "--data", trained / "data" / "shapes"),
        *("--batch-size", "4", "--workers", "0", "--metrics", "metrics.json", "--results", "results.json"),
        cwd=trained,
    )
    assert done.returncode == 0, done.stderr
    last = json.loads((output / "metrics.jsonl").read_text().splitlines()[-1])
    metrics = json.loads((trained / "metrics.json").read_text())
    assert metrics["AP"] == pytest.approx(last["AP"], abs=1e-6)
    assert {"image_id", "category_id", "bbox", "score"} <= json.loads((trained / "results.json").read_text())[
        0
    ].keys()


def test_detection_draws_pictures_and_writes_json(trained: Path) -> None:
    images = sorted((trained / "data" / "shapes" / "val2017").glob("*.jpg"))
    checkpoint = trained / "runs" / "shapes" / "checkpoint.pth"
    done = run(
        "detect.py", checkpoint, images[0], "data/shapes/val2017/*2.jpg", "--threshold", "0", cwd=trained
    )
    assert done.returncode == 0, done.stderr
    records = json.loads((trained / "detections" / "detections.json").read_text())
    assert str(images[0]) in records
    for record in records.values():
        with Image.open(trained / record["picture"]) as picture:
            assert picture.size[0] > 100
    first = records[str(images[0])]["detections"][0]
    assert first["class"] in {"circle", "square", "triangle", "star", "ring", "cross"}
    with Image.open(images[0]) as image:
        width, height = image.size
    x1, y1, x2, y2 = first["box_xyxy"]
    assert 0 <= x1 <= x2 <= width
    assert 0 <= y1 <= y2 <= height


def test_fine_tuning_with_other_classes_says_what_starts_anew(trained: Path) -> None:
    checkpoint = trained / "runs" / "shapes" / "checkpoint.pth"
    state = torch.load(checkpoint, weights_only=True)
    state["class_names"] = ["a", "b", "c", "d", "e", "f"]  # as many, but others
    torch.save(state, trained / "others.pth")
    done = run(
        *(
            "train.py",
            "--shapes-images",
            "16",
            "--iterations",
            "1",
            "--weights",
            "others.pth",
            "--output",
            "runs/tuned",
        ),
        cwd=trained,
    )
    assert done.returncode == 0, done.stderr
    assert "everything but head.stages.0.class_logits.weight" in done.stdout
    tuned = torch.load(trained / "runs" / "tuned" / "checkpoint.pth", weights_only=True)
    assert tuned["config"]["num_proposals"] == 5  # the checkpoint's model, not the recipe's


def test_two_processes_train_and_evaluate_together(trained: Path) -> None:
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    done = run("train.py", *TINY, "--output", "runs/two", "--device", "cpu", cwd=trained, launcher=launcher)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("AP50") >= 1
    assert torch.load(trained / "runs" / "two" / "checkpoint.pth", weights_only=True)["iteration"] == 4


@pytest.mark.parametrize(
    ("script", "arguments", "message"),
    [
        ("train.py", ("--data", "nowhere"), "nowhere"),
        ("train.py", ("--num-proposals", "0"), "num_proposals must be at least 1, got 0"),
        ("train.py", ("--backbone-norm", "frozen"), "needs pretrained weights"),
        ("train.py", ("--weights", "nothing.pth"), "nothing.pth: no such file"),
        ("evaluate.py", ("garbage.pth", "--data", "data/shapes"), "garbage.pth: not a checkpoint"),
        ("detect.py", ("garbage.pth", "nowhere/*.jpg"), "nowhere/*.jpg: no image there"),
    ],
)
def test_bad_input_ends_with_one_line_that_names_it(
    trained: Path, script: str, arguments: tuple[str, ...], message: str
) -> None:
    (trained / "garbage.pth").write_bytes(b"not a checkpoint")
    options = ("--shapes-images", "16") if script == "train.py" else ()
    done = run(script, *arguments, *options, cwd=trained)
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("script", ["train.py", "evaluate.py", "detect.py"])
def test_help(script: str, tmp_path: Path) -> None:
    done = run(script, "--help", cwd=tmp_path)
    assert done.returncode == 0
    assert "--" in done.stdout
