"""Runs that die are resumed, with the same result to the last bit."""

import json
import re
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from evaluate import detect_dataset
from processes import FAULTY, TWO_PROCESSES, run_script, run_two

from sparse_rcnn import load_detector
from sparse_rcnn.data import ShapesDataset, TrainingSampler, evaluation_transform

# Three epochs of 16 images, with a checkpoint in the middle of each.
OPTIONS = (
    *("--shapes-images", "16", "--iterations", "10", "--batch-size", "4", "--log-interval", "1"),
    *("--hidden-dim", "32", "--num-proposals", "5", "--num-stages", "2", "--eval-interval", "0"),
    *("--warmup", "2", "--checkpoint-interval", "3", "--ema", "0.9", "--device", "cpu"),
    *("--backbone-norm", "group", "--learning-rate", "2.5e-5"),
)
run_training, train_by_two = partial(run_script, FAULTY), partial(run_two, FAULTY)
pytestmark = pytest.mark.slow


def losses_of(output: Path) -> dict[int, float]:
    entries = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    iterations = [entry["iteration"] for entry in entries if "loss" in entry]
    assert iterations == sorted(set(iterations))
    return {entry["iteration"]: entry["loss"] for entry in entries if "loss" in entry}


def values_of(output: Path, key: str) -> list[float]:
    entries = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    return [entry[key] for entry in entries if key in entry]


def assert_same(found: Any, expected: Any, where: str = "") -> None:
    """Equality of nested plain data and tensors, to the last bit."""
    if isinstance(expected, dict):
        assert found.keys() == expected.keys(), where
        for key in expected:
            assert_same(found[key], expected[key], f"{where}/{key}")
    elif isinstance(expected, (list, tuple)):
        assert len(found) == len(expected), where
        for index, (mine, theirs) in enumerate(zip(found, expected, strict=True)):
            assert_same(mine, theirs, f"{where}/{index}")
    elif isinstance(expected, torch.Tensor):
        assert torch.equal(found, expected), where
    else:
        assert found == expected, where


def assert_same_run(output: Path, expected: Path) -> None:
    """The same losses in all iterations, and the same end: weights, average, moments, generators."""
    assert losses_of(output) == losses_of(expected)
    mine, theirs = (
        torch.load(directory / "checkpoint.pth", weights_only=True) for directory in (output, expected)
    )
    for checkpoint in (mine, theirs):
        del checkpoint["arguments"]["output"]
        assert (
            checkpoint.pop("seconds") > checkpoint.pop("spent") > 0
        )  # that it took, in all processes one after the other
        del checkpoint["digest"]  # of these, too
    assert_same(mine, theirs)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A directory with an uninterrupted run of one process, runs/one."""
    directory = tmp_path_factory.mktemp("survival")
    done = run_training(*OPTIONS, "--output", "runs/one", cwd=directory)
    assert done.returncode == 0, done.stderr
    assert list(losses_of(directory / "runs" / "one")) == list(range(1, 11))
    yield directory
    shutil.rmtree(directory)  # 4 GB, which pytest keeps until the last test


@pytest.fixture(scope="module")
def place_of_two(place: Path) -> Path:
    """And one of two processes, runs/two."""
    done = train_by_two(*OPTIONS, "--output", "runs/two", cwd=place)
    assert done.returncode == 0, done.stderr
    return place


def test_the_same_command_goes_on_after_kill_9(place: Path) -> None:
    command = (*OPTIONS, "--output", "runs/killed")
    done = run_training(*command, cwd=place, environment={"KILL_AT": "0:8"})
    assert done.returncode == -signal.SIGKILL
    done = run_training(*command, cwd=place)
    assert done.returncode == 0, done.stderr
    assert "resuming at iteration 6" in done.stdout
    assert_same_run(place / "runs" / "killed", place / "runs" / "one")


def test_the_checkpoint_before_is_used_if_the_newest_is_damaged(place: Path) -> None:
    output = place / "runs" / "damaged"
    shutil.copytree(place / "runs" / "one", output)
    (output / "summary.json").unlink()
    newest = max((output / "checkpoints").glob("*.pth"))
    newest.write_bytes(newest.read_bytes()[:-1000])
    done = run_training(*OPTIONS, "--output", "runs/damaged", cwd=place)
    assert done.returncode == 0, done.stderr
    assert f"{newest.name} is damaged" in done.stdout
    assert "resuming at iteration 9" in done.stdout
    assert_same_run(output, place / "runs" / "one")


def end_of(output: Path) -> torch.Tensor:
    weights = torch.load(output / "checkpoint.pth", weights_only=True)["trained"]
    return torch.cat([tensor.flatten() for tensor in weights.values()])


def test_any_number_of_processes_and_parts_makes_the_same_steps(place_of_two: Path) -> None:
    done = run_training(*OPTIONS, "--accumulate", "2", "--output", "runs/parts", cwd=place_of_two)
    assert done.returncode == 0, done.stderr
    expected = end_of(place_of_two / "runs" / "one")
    for name in ("two", "parts"):
        # AdamW makes a step of the rounding of a gradient near 0.
        torch.testing.assert_close(end_of(place_of_two / "runs" / name), expected, rtol=0, atol=1e-4)
        # Clipping and AdamW hide the scale of the gradient, but its norm shows it. Later, rounding grows.
        for key in ("loss", "gradient_norm"):
            mine, theirs = (values_of(place_of_two / "runs" / run, key)[:3] for run in (name, "one"))
            assert mine == pytest.approx(theirs, rel=1e-3)


def test_a_process_without_targets_makes_the_same_steps(place_of_two: Path) -> None:
    data = place_of_two / "sparse"
    shutil.copytree(place_of_two / "data" / "shapes", data)
    file = data / "annotations" / "instances_train2017.json"
    content = json.loads(file.read_text())
    first = content["images"][0]
    content["images"] = [first, *(image for image in content["images"][1:] if image["id"] <= 4)]
    content["annotations"] = [x for x in content["annotations"] if x["image_id"] == first["id"]]
    file.write_text(json.dumps(content))
    # One image of four has objects: in every step there is a process that sees none.
    options = (*OPTIONS, "--data", data, "--backbone", "resnet10", "--backbone-weights", "none")
    options += (
        "--recipe",
        "coco",
        "--sizes",
        "128",
        "--max-size",
        "128",
        "--eval-size",
        "128",
        "--num-heads",
        "4",
    )
    ends = []
    for name, run in (("alone", run_training), ("together", train_by_two)):
        done = run(*options, "--output", f"runs/{name}", cwd=place_of_two)
        assert done.returncode == 0, done.stderr
        ends.append(end_of(place_of_two / "runs" / name))
    torch.testing.assert_close(ends[1], ends[0], rtol=0, atol=1e-5)


def annotate_as_detected(data: Path, checkpoint: Path) -> None:
    """Annotates the validation images with the model's own detections, moved a little."""
    file = data / "annotations" / "instances_val2017.json"
    content = json.loads(file.read_text())
    dataset = ShapesDataset(data, "val", 16, transform=evaluation_transform(128, 128))
    detector = load_detector(str(checkpoint), torch.device("cpu"))
    found = detect_dataset(detector.detect, dataset, torch.device("cpu"))
    content["annotations"] = []
    for image in content["images"]:
        inside = [x for x in found if x["image_id"] == image["id"] and min(x["bbox"][2:]) > 8]
        for number, result in enumerate(inside[:2]):
            x, y, width, height = result["bbox"]
            shrunk = [x, y, width * (1 - 0.02 * image["id"]), height]  # AP is not the same at all thresholds
            content["annotations"].append(
                {
                    "id": 10 * image["id"] + number,
                    "image_id": image["id"],
                    "category_id": result["category_id"],
                    "bbox": shrunk,
                    "area": shrunk[2] * height,
                    "iscrowd": 0,
                }
            )
    file.write_text(json.dumps(content))


def test_two_processes_evaluate_as_one_to_the_last_digit(place: Path) -> None:
    shutil.copytree(place / "runs" / "one", place / "runs" / "evaluated")
    data = place / "data_as_detected"
    shutil.copytree(place / "data" / "shapes", data)
    annotate_as_detected(data, place / "runs" / "one" / "checkpoint.pth")
    command = (*OPTIONS, "--output", "runs/evaluated", "--resume", "--eval-batch-size", "3")
    command = (*command, "--shapes-dir", str(data))
    summaries = []
    for run in (run_training, train_by_two):  # 16 images in 6 batches: the last is smaller
        done = run(*command, cwd=place)
        assert done.returncode == 0, done.stderr
        assert "resuming at iteration 10" in done.stdout
        summary = json.loads((place / "runs" / "evaluated" / "summary.json").read_text())
        del summary["minutes"]
        summaries.append(summary)
    assert summaries[0] == summaries[1]
    assert 0.1 < summaries[0]["AP"] < 0.9


def test_ten_unreadable_neighbours_of_one_process_end_all(place: Path) -> None:
    data = place / "data_of_a_dying_disk"
    shutil.copytree(place / "data" / "shapes", data)
    for path in sorted((data / "train2017").iterdir())[:10]:
        path.write_bytes(b"")
    done = train_by_two(
        *(*OPTIONS, "--shapes-dir", data, "--output", "runs/dying", "--max-unreadable", "50"),
        cwd=place,
    )
    assert done.returncode == 1
    message = r"error: iteration \d+: 10 images in a row could not be read, the last: "
    assert len(re.findall(message, done.stderr)) == 2  # both, at the same step


def test_torchrun_starts_again_when_one_process_dies(place_of_two: Path) -> None:
    launcher = (*TWO_PROCESSES, "--max-restarts", "1")
    done = run_training(
        *(*OPTIONS, "--output", "runs/restarted"),
        cwd=place_of_two,
        launcher=launcher,
        environment={"KILL_AT": "1:8"},
    )
    assert done.returncode == 0, done.stderr
    assert "resuming at iteration 6" in done.stdout
    assert_same_run(place_of_two / "runs" / "restarted", place_of_two / "runs" / "two")


def test_a_signal_to_one_process_stops_all_and_the_same_command_goes_on(place_of_two: Path) -> None:
    command = (*OPTIONS, "--output", "runs/stopped")
    done = train_by_two(*command, cwd=place_of_two, environment={"TERM_AT": "1:5"})
    assert done.returncode == 0, done.stderr
    assert "stopped at iteration 6; the same command goes on from there" in done.stdout
    output = place_of_two / "runs" / "stopped"
    assert (
        torch.load(output / "checkpoint.pth", weights_only=True)["iteration"] == 6
    )  # the one in which all learn of it
    assert not (output / "summary.json").exists()
    done = train_by_two(*command, cwd=place_of_two)
    assert done.returncode == 0, done.stderr
    assert_same_run(output, place_of_two / "runs" / "two")


def test_two_nodes_of_one_process_are_like_one_node_of_two(place_of_two: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    launcher = ("-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1")
    launcher += ("--rdzv-backend", "c10d", "--rdzv-endpoint", f"127.0.0.1:{port}", "--rdzv-id", "nodes")

    def run_node(node: int) -> subprocess.CompletedProcess[str]:
        return run_training(*OPTIONS, "--output", "runs/nodes", cwd=place_of_two, launcher=launcher)

    with ThreadPoolExecutor(2) as nodes:
        for done in nodes.map(run_node, range(2)):
            assert done.returncode == 0, done.stderr
    assert_same_run(place_of_two / "runs" / "nodes", place_of_two / "runs" / "two")


def test_a_bad_batch_of_one_process_is_skipped_by_all(place_of_two: Path) -> None:
    done = train_by_two(
        *(*OPTIONS, "--output", "runs/nan"),
        cwd=place_of_two,
        environment={"NAN_IMAGES": "7"},
    )
    assert done.returncode == 0, done.stderr
    output = place_of_two / "runs" / "nan"
    entries = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    skipped = [entry for entry in entries if "image_ids" in entry]
    assert len(skipped) >= 2  # once an epoch
    for entry in skipped:
        assert 7 in entry["image_ids"]
        assert len(entry["image_ids"]) == 2  # those of the process that met it, not of both
    assert losses_of(output).keys() == {*range(1, 11)} - {entry["iteration"] for entry in skipped}
    checkpoint = torch.load(output / "checkpoint.pth", weights_only=True)
    assert checkpoint["skipped"] == len(skipped)
    assert all(tensor.isfinite().all() for tensor in checkpoint["model"].values())
    assert {int(x["step"]) for x in checkpoint["optimizer"]["state"].values()} == {10 - len(skipped)}
    dumps = [torch.load(path, weights_only=True) for path in (output / "bad_batches").iterdir()]
    assert len(dumps) == len(skipped)  # only of the process that met it
    assert all(dump["batches"][0]["images"].isnan().any() for dump in dumps)
    assert all((place_of_two / path).is_file() for entry in skipped for path in entry["dumps"])


def test_many_bad_batches_in_a_row_end_all_processes(place_of_two: Path) -> None:
    done = train_by_two(
        *(*OPTIONS, "--output", "runs/hopeless", "--max-bad-batches", "3"),
        cwd=place_of_two,
        environment={"NAN_IMAGES": ",".join(map(str, range(1, 17)))},
    )
    assert done.returncode == 1
    assert "error: iteration 3: the loss or its gradient was not finite 3 times in a row" in done.stderr


def test_a_missing_image_is_refused_at_the_start_and_replaced_later(place: Path) -> None:
    data = place / "data_with_a_gap"
    shutil.copytree(place / "data" / "shapes", data)
    command = (*OPTIONS, "--shapes-dir", data, "--output", "runs/gap")
    done = run_training(*command, cwd=place, environment={"KILL_AT": "0:8"})
    assert done.returncode == -signal.SIGKILL
    gap = data / "train2017" / "000000000005.jpg"
    gap.unlink()
    done = run_training(*command, "--output", "runs/new", cwd=place)
    assert done.returncode == 1
    assert "1 of 16 images are not in" in done.stderr
    assert gap.name in done.stderr
    done = run_training(*command, cwd=place)  # a run that has begun goes on
    assert done.returncode == 0, done.stderr
    assert "another image replaces it" in done.stderr
    (problem,) = torch.load(place / "runs" / "gap" / "checkpoint.pth", weights_only=True)["unreadable"]
    assert gap.name in problem
    done = run_training(*command, "--output", "runs/new", "--max-unreadable", "0", cwd=place)
    assert done.returncode == 1
    assert "1 images could not be read, and --max-unreadable is 0" in done.stderr


def test_a_checkpoint_that_cannot_be_written_costs_nothing_but_itself(place: Path) -> None:
    before = place / "runs" / "full"
    shutil.copytree(place / "runs" / "one", before)
    (before / "summary.json").unlink()
    for path in sorted((before / "checkpoints").iterdir())[1:]:
        path.unlink()  # from iteration 6 on
    kept = [path.name for path in (before / "checkpoints").iterdir()]
    limit = {"FILE_LIMIT": str(8 * 2**20)}  # bytes: the checkpoints have more, all else has less
    done = run_training(*OPTIONS, "--output", "runs/full", cwd=place, environment=limit)
    assert done.returncode == 1
    said = done.stdout + done.stderr
    assert "cannot write the checkpoint of iteration 9" in said
    assert "training goes on" in said
    assert "error: cannot write the checkpoint of iteration 10" in done.stderr
    assert losses_of(before) == losses_of(place / "runs" / "one")
    assert [path.name for path in (before / "checkpoints").iterdir()] == kept
    done = run_training(*OPTIONS, "--output", "runs/full", cwd=place)  # there is room again
    assert done.returncode == 0, done.stderr
    assert "resuming at iteration 6" in done.stdout
    assert_same_run(before, place / "runs" / "one")


def test_a_dry_run_of_a_bad_batch_of_one_process_ends_all(place_of_two: Path) -> None:
    sampler = TrainingSampler([(128, 128)] * 16, 4, seed=0, rank=1, world_size=2)
    ids = [draw.image_index + 1 for draw in next(iter(sampler))]  # in the first step of process 1 alone
    done = train_by_two(
        *(*OPTIONS, "--output", "runs/dry", "--dry-run", "--precision", "fp16"),
        cwd=place_of_two,
        environment={"NAN_IMAGES": ",".join(map(str, ids))},
    )
    assert done.returncode == 1
    assert len(re.findall(r"error: the loss is nan and the gradient's norm", done.stderr)) == 2


@pytest.mark.parametrize("precision", ["fp32", "fp16"])  # which overflows until its scale is found
def test_a_dry_run_writes_nothing(place: Path, precision: str) -> None:
    options = ("--output", "runs/dry", "--dry-run", "--precision", precision)
    done = run_training(*OPTIONS, *options, cwd=place)
    assert done.returncode == 0, done.stderr
    assert "one step of 4 images per device, padded to the largest possible size (128 x 128)" in done.stdout
    assert "dry run: no problem was found" in done.stdout
    assert not (place / "runs" / "dry").exists()
