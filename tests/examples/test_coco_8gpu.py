"""coco_8gpu.py is short. It trains, evaluates, and writes a checkpoint for all other scripts."""

from pathlib import Path

import pytest
import torch
import torchvision
from processes import EXAMPLES, failure_of, run_here, run_two

from sparse_rcnn.data import ShapesDataset
from sparse_rcnn.nn import load_checkpoint


def test_it_is_short_and_says_how_it_is_started() -> None:
    assert len((EXAMPLES / "coco_8gpu.py").read_text().splitlines()) <= 150
    assert "start it with torchrun --nproc-per-node N" in failure_of("coco_8gpu.py", "data")


@pytest.mark.slow
def test_two_processes_train_and_evaluate_py_finds_the_same_figures(tmp_path: Path) -> None:
    for split, count in (("train", 8), ("val", 4)):
        ShapesDataset(tmp_path / "shapes", split, count)
    torch.manual_seed(0)
    torch.save(torchvision.models.resnet18().state_dict(), tmp_path / "trunk.pth")
    options = ("shapes", "--backbone", "resnet18", "--backbone-weights", "trunk.pth", "--num-proposals", "20")
    options += ("--max-size", "64", "--batch-size", "4", "--epochs", "2")
    on_cpu = {"CUDA_VISIBLE_DEVICES": ""}
    done = run_two("coco_8gpu.py", *options, cwd=tmp_path, environment=on_cpu)
    assert done.returncode == 0, done.stderr
    assert "iteration 4 of 4: loss " in done.stdout
    checkpoint = load_checkpoint(tmp_path / "runs" / "coco_8gpu" / "checkpoint.pth")
    assert (checkpoint.config.num_proposals, checkpoint.image_size, checkpoint.remarks) == (20, (800, 64), [])
    trunk = torch.load(tmp_path / "trunk.pth", weights_only=True)
    name = "layer4.1.conv2.weight"
    moved = (checkpoint.weights[f"backbone.trunk.{name}"] - trunk[name]).abs().max().item()
    assert 0 < moved < 4 * 2.5e-5 * 1.1  # a step of AdamW is at most its learning rate

    options = ("runs/coco_8gpu/checkpoint.pth", "--data", "shapes", "--workers", "0", "--device", "cpu")
    again = run_here("evaluate.py", *options, cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    tables = [
        [line for line in output.splitlines() if line.startswith(" Average")]
        for output in (done.stdout, again.stdout)
    ]
    assert len(tables[0]) == 12
    assert tables[0] == tables[1]
