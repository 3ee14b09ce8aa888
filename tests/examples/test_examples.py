"""The example scripts, run as processes with tiny settings."""

import importlib.util
import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from evaluate import detect_dataset, load_dataset
from PIL import Image
from processes import EXAMPLES, TINY, failure_of, run_here, run_python, run_script, run_two
from torch._dynamo.utils import counters

from sparse_rcnn import load_detector
from sparse_rcnn.data import evaluation_transform
from sparse_rcnn.nn import read_checkpoint


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
    assert "shapes on shapes, after 4 iterations" in (output / "report.html").read_text()
    assert len(list((output / "photos").glob("*.jpg"))) == 16
    assert list(output.glob("events.out.tfevents.*"))


@pytest.mark.slow
def test_resuming_keeps_optimizer_schedule_and_place(trained: Path) -> None:
    longer = [value if value != "4" or TINY[i - 1] != "--iterations" else "6" for i, value in enumerate(TINY)]
    done = run_script("train.py", *longer, "--output", "runs/resumed", cwd=trained)
    assert done.returncode == 0, done.stderr
    source = trained / "runs" / "resumed" / "checkpoint.pth"
    done = run_script(
        "train.py", *longer, "--iterations", "8", "--output", "runs/resumed", "--resume", cwd=trained
    )
    assert done.returncode == 0, done.stderr
    assert "resuming at iteration 6" in done.stdout
    checkpoint = torch.load(source, weights_only=True)
    assert checkpoint["iteration"] == 8
    # A reset optimiser would have counted 2 steps.
    assert {int(state["step"]) for state in checkpoint["optimizer"]["state"].values()} == {8}
    assert checkpoint["schedule"]["last_epoch"] == 8


def test_evaluation_of_the_checkpoint_gives_the_same_ap_as_training(trained: Path) -> None:
    output = trained / "runs" / "shapes"
    fast = ("--evaluator", "faster_coco_eval") if importlib.util.find_spec("faster_coco_eval") else ()
    done = run_here(
        *("evaluate.py", output / "checkpoint.pth", "--data", trained / "data" / "shapes", *fast),
        *("--batch-size", "4", "--workers", "0", "--metrics", "metrics.json", "--results", "results.json"),
        *("--report", "report", "--against", output / "checkpoint.pth"),
        cwd=trained,
    )
    assert done.returncode == 0, done.stderr
    page = (trained / "report" / "report.html").read_text()
    assert "checkpoint.pth on shapes, val" in page
    assert len(list((trained / "report" / "photos").glob("*.jpg"))) == 16
    last = json.loads((output / "metrics.jsonl").read_text().splitlines()[-1])
    metrics = json.loads((trained / "metrics.json").read_text())
    assert metrics["AP"] == pytest.approx(last["AP"], abs=1e-6)
    assert done.stdout.count("\ncircle ") == done.stdout.count("\nall classes ") == 1
    assert "that its repair would gain\nclass " in done.stdout
    assert {"image_id", "category_id", "bbox", "score"} <= json.loads((trained / "results.json").read_text())[
        0
    ].keys()


def test_detection_draws_pictures_and_writes_json(trained: Path) -> None:
    images = sorted((trained / "data" / "shapes" / "val2017").glob("*.jpg"))
    checkpoint = trained / "runs" / "shapes" / "checkpoint.pth"
    done = run_here(
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


@pytest.mark.slow
def test_bf16_trains_evaluates_and_detects(trained: Path) -> None:
    options = (*TINY, "--precision", "bf16", "--output", "runs/bf16")
    done = run_script("train.py", *options, cwd=trained)
    assert done.returncode == 0, done.stderr
    first, exact = (
        json.loads((trained / "runs" / name / "metrics.jsonl").read_text().splitlines()[0])
        for name in ("bf16", "shapes")
    )
    assert 0 < abs(first["loss"] / exact["loss"] - 1) < 0.05  # rounded, and the same
    checkpoint = torch.load(trained / "runs" / "bf16" / "checkpoint.pth", weights_only=True)
    assert {value.dtype for value in checkpoint["model"].values()} <= {torch.float32, torch.int64}
    done = run_here("train.py", *options, "--resume", "--precision", "fp32", cwd=trained)
    assert done.returncode == 1
    assert "--precision was bf16, not fp32" in done.stderr

    scores = {}
    for precision in ("fp32", "bf16"):
        (trained / precision).mkdir()
        options = ("--data", "data/shapes", "--results", f"{precision}/results.json")
        checkpoint_file = "runs/shapes/checkpoint.pth"
        done = run_here("evaluate.py", checkpoint_file, *options, "--precision", precision, cwd=trained)
        assert done.returncode == 0, done.stderr
        results = json.loads((trained / precision / "results.json").read_text())
        scores[precision] = torch.tensor([result["score"] for result in results]).topk(100).values
    difference = (scores["fp32"] - scores["bf16"]).abs().max().item()
    assert 0 < difference < 0.01


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["eager", pytest.param("inductor", marks=pytest.mark.release)])
def test_evaluation_compiles_a_checkpoint_and_refuses_to_compile_an_exported_file(
    trained: Path, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = torch.device("cpu")
    checkpoint = str(trained / "runs" / "shapes" / "checkpoint.pth")
    images = torch.randint(0, 256, (2, 3, 64, 96), dtype=torch.uint8)
    sizes = torch.tensor([[64, 96], [50, 90]])
    if backend == "eager":  # test_gpu_check.py has Inductor on smaller detectors
        monkeypatch.setattr("sparse_rcnn.inference.compiling._packed", lambda graph, _: graph)
    torch.compiler.reset()
    counters.clear()
    with torch.no_grad():
        expected = load_detector(checkpoint, device).detect(images, sizes)
        assert not counters["stats"]
        found = load_detector(checkpoint, device, compile=True).detect(images, sizes)
    assert counters["stats"]["unique_graphs"] == 1
    for mine, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-3)
    exported = trained / "never_read.onnx"
    exported.write_bytes(b"")
    for options in ({"compile": True}, {"precision": "bf16"}):
        with pytest.raises(ValueError, match="are for checkpoints, not for exported files"):
            load_detector(str(exported), device, **options)


@pytest.mark.slow
def test_fp16_with_average_recomputation_accumulation_and_compiling(trained: Path) -> None:
    options = (*TINY, "--precision", "fp16", "--ema", "0.9", "--recompute-head", "--accumulate", "2")
    done = run_script("train.py", *options, "--compile", "eager", "--output", "runs/all", cwd=trained)
    assert done.returncode == 0, done.stderr
    checkpoint = torch.load(trained / "runs" / "all" / "checkpoint.pth", weights_only=True)
    assert checkpoint["scaler"]["scale"] < 65536  # it began too high, and overflow is no bad batch
    assert checkpoint["skipped"] == 0
    assert checkpoint["model"].keys() == checkpoint["trained"].keys()
    entries = [json.loads(line) for line in (trained / "runs/all/metrics.jsonl").read_text().splitlines()]
    assert entries[0]["loss_scale"] < 65536
    assert len(entries[0]["matched_iou_by_stage"]) == 2


@pytest.mark.slow
def test_fine_tuning_with_other_classes_says_what_starts_anew(trained: Path) -> None:
    checkpoint = trained / "runs" / "shapes" / "checkpoint.pth"
    state = torch.load(checkpoint, weights_only=True)
    state["class_names"] = ["a", "b", "c", "d", "e", "f"]  # the same number of other names
    del state["digest"]  # of what it was
    torch.save(state, trained / "others.pth")
    done = run_script(
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
    anew = re.search(r"everything but (.*), which are initialised again", done.stdout)
    assert anew is not None
    assert {"proposals.class_logits.weight", "head.stages.0.class_logits.weight"} <= {*anew[1].split(", ")}
    tuned = torch.load(trained / "runs" / "tuned" / "checkpoint.pth", weights_only=True)
    assert tuned["config"]["num_proposals"] == 5  # the checkpoint's model, not the recipe's


@pytest.mark.slow
def test_two_processes_train_and_evaluate_together(trained_by_two: Path) -> None:
    checkpoint = torch.load(trained_by_two / "runs" / "two" / "checkpoint.pth", weights_only=True)
    assert checkpoint["iteration"] == 4


@pytest.mark.slow
def test_a_run_before_is_set_aside(trained: Path) -> None:
    shutil.copytree(trained / "runs" / "shapes", trained / "runs" / "again")
    options = ("--shapes-images", "16", "--iterations", "1", "--output", "runs/again", "--hidden-dim", "32")
    done = run_script("train.py", *options, cwd=trained)
    assert done.returncode == 0, done.stderr
    assert "runs/again already has a run, which is now runs/again.1 (complete)" in done.stdout
    for directory in ("again", "again.1"):
        assert (trained / "runs" / directory / "checkpoint.pth").is_file()


@pytest.mark.slow
def test_processes_share_the_evaluation_without_loss_or_double(
    trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(trained)
    device = torch.device("cpu")
    detector = load_detector("runs/shapes/checkpoint.pth", device)
    dataset = load_dataset("data/shapes", "val", evaluation_transform(128, 128))

    def ordered(results: list[dict]) -> list[dict]:
        return sorted(results, key=lambda result: (result["image_id"], -result["score"]))

    for size in (1, 5):  # 16 images: the last batch of 5 has one
        whole = ordered(detect_dataset(detector.detect, dataset, device, size))
        ranks = range(3)
        shares = [detect_dataset(detector.detect, dataset, device, size, rank=r, world_size=3) for r in ranks]
        assert all(shares)
        assert len(whole) > len(dataset)
        assert ordered([result for share in shares for result in share]) == whole


def test_detection_goes_on_after_an_unreadable_image_and_says_so(trained: Path, tmp_path: Path) -> None:
    image = sorted((trained / "data" / "shapes" / "val2017").glob("*.jpg"))[0]
    (tmp_path / "broken.jpg").write_bytes(image.read_bytes()[:300])
    checkpoint = trained / "runs" / "shapes" / "checkpoint.pth"
    done = run_here("detect.py", checkpoint, tmp_path / "broken.jpg", image, cwd=tmp_path)
    assert done.returncode == 1
    assert "broken.jpg: cannot be read as an image" in done.stderr
    assert "1 of 2 images could not be read" in done.stderr
    assert list(json.loads((tmp_path / "detections" / "detections.json").read_text())) == [str(image)]


@pytest.mark.slow
@pytest.mark.parametrize("processes", [pytest.param(1, marks=pytest.mark.release), 2])
def test_compiled_training_is_the_same_training(trained_by_two: Path, processes: int) -> None:
    trained = trained_by_two
    run = run_two if processes == 2 else run_script
    # Inductor's own arithmetic is tested in tests/nn/test_one_graph.py, in a fraction of the time.
    options = ("--compile", "aot_eager", "--output", "runs/compiled", "--device", "cpu")
    done = run("train.py", *TINY, *options, cwd=trained)
    assert done.returncode == 0, done.stderr
    assert "compiling with aot_eager and the first step took" in done.stdout + done.stderr
    found, expected = (
        torch.load(trained / "runs" / name / "checkpoint.pth", weights_only=True)
        for name in ("compiled", "two" if processes == 2 else "shapes")
    )
    assert found["model"].keys() == expected["model"].keys()
    # Weights hardly move in 4 iterations of warm-up, so the sums of gradients are compared. After 2
    # iterations they agree to 5e-6. Later, rounding sometimes gives a target another proposal.
    mine, theirs = (
        torch.cat([state["exp_avg"].flatten() for state in checkpoint["optimizer"]["state"].values()])
        for checkpoint in (found, expected)
    )
    assert (mine - theirs).norm().item() <= 0.25 * theirs.norm().item()


@pytest.mark.slow
def test_compiled_training_on_any_sizes_evaluates_saves_and_resumes(trained: Path) -> None:
    options = [*TINY, "--eval-interval", "2", "--data", "data/shapes", "--backbone", "resnet10"]
    options += [
        "--recipe",
        "coco",
        "--backbone-norm",
        "batch",
        "--backbone-weights",
        "none",
        "--sizes",
        "96",
        "128",
    ]
    options += ["--max-size", "160", "--eval-size", "96", "--workers", "0", "--output", "runs/sizes"]
    options += ["--num-heads", "4", "--num-stages", "1", "--compile", "eager"]
    done = run_script("train.py", *options, cwd=trained)
    assert done.returncode == 0, done.stderr
    entries = [json.loads(x) for x in (trained / "runs" / "sizes" / "metrics.jsonl").read_text().splitlines()]
    assert [e["iteration"] for e in entries if "AP" in e] == [2, 4]
    done = run_script("train.py", *options, "--iterations", "6", "--resume", cwd=trained)
    assert done.returncode == 0, done.stderr
    assert "resuming at iteration 4" in done.stdout


@pytest.mark.slow
def test_small_data_need_no_options_and_a_budget_of_time_is_kept(trained: Path) -> None:
    options = ("--data", "data/shapes", "--backbone-weights", "none", "--minutes", "0.05", "--clock", "cpu")
    options += ("--augmentation", "strong", "--device", "cpu", "--output", "runs/small")
    options += ("--backbone", "resnet10")
    done = run_script("train.py", *options, cwd=trained)
    assert done.returncode == 0, done.stderr
    assert "recipe for small data: 16 training images" in done.stdout
    output = trained / "runs" / "small"
    assert "--augmentation" in (output / "recipe.txt").read_text()
    assert all((output / name).is_file() for name in ("best.pth", "augmentation.png", "training.png"))
    checkpoint = read_checkpoint(output / "best.pth")
    assert (checkpoint["config"]["proposals"], checkpoint["arguments"]["recipe"]) == ("dense", "small")
    last = json.loads((output / "summary.json").read_text())["iterations"]
    entries = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    assert any("AP" in entry for entry in entries)
    # The last step has its losses, though only its time says that it is the last.
    assert [entry["iteration"] for entry in entries if "loss" in entry][-1] == last >= 1
    assert read_checkpoint(output / "checkpoint.pth")["spent"] >= 0.05 * 60


@pytest.mark.parametrize(
    ("script", "arguments", "message"),
    [
        ("train.py", ("--data", "nowhere"), "nowhere"),
        ("train.py", ("--num-proposals", "0"), "--num-proposals must be at least 1, got 0"),
        ("train.py", ("--backbone-norm", "frozen"), "needs pretrained weights"),
        ("train.py", ("--weights", "nothing.pth"), "nothing.pth: no such file"),
        ("train.py", ("--compile", "nothing"), "--compile must be one of"),
        ("train.py", ("--vertical-flip",), "need --data"),
        ("train.py", ("--num-proposals", "9" * 13), "--num-proposals must be at most 100000"),
        ("train.py", ("--weights", "runs/shapes/checkpoint.pth"), "must not lie in --output"),
        ("evaluate.py", ("garbage.pth", "--data", "data/shapes"), "garbage.pth: not a checkpoint"),
        ("detect.py", ("garbage.pth", "nowhere/*.jpg"), "nowhere/*.jpg: no image there"),
    ],
)
def test_bad_input_ends_with_one_line_that_names_it(
    trained: Path, script: str, arguments: tuple[str, ...], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(trained)
    (trained / "garbage.pth").write_bytes(b"not a checkpoint")
    options = ("--shapes-images", "16") if script == "train.py" else ()
    said = failure_of(script, *arguments, *options)
    assert message in said.splitlines()[-1]
    assert (trained / "runs" / "shapes" / "checkpoint.pth").is_file()  # not moved by a wrong command


def test_a_full_disk_is_noticed_before_training(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(trained)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9, 10**6))
    said = failure_of("train.py", *TINY, "--output", "runs/full")
    assert "has 0.00 GB free, and a checkpoint takes 0.0" in said
    assert "make room, or give another --output" in said
    assert not (trained / "runs" / "full").exists()


# Each script in a fork of a process that has imported only torch: it must import the rest itself.
HELP = """
import os, runpy, sys
import torch
for script in sys.argv[2:]:
    if (child := os.fork()) == 0:
        sys.path.insert(0, sys.argv[1])
        sys.argv = [script, "--help"]
        runpy.run_path(f"{sys.path[0]}/{script}", run_name="__main__")
    assert os.waitpid(child, 0)[1] == 0, script
"""


@pytest.mark.slow
def test_help(tmp_path: Path) -> None:
    scripts = ("train.py", "evaluate.py", "detect.py", "export.py", "benchmark.py")
    said = run_python(HELP, EXAMPLES, *scripts, cwd=tmp_path)
    assert re.findall(r"^usage: (\S+) ", said, re.MULTILINE) == list(scripts)


def test_a_comparison_needs_a_report() -> None:
    said = failure_of("evaluate.py", "one.pth", "--data", "data", "--against", "other.pth")
    assert "--against needs --report DIR" in said
