"""The benchmark compares equal work, and its measurements are right. No test looks at a time."""

import json
import os
import signal
from pathlib import Path

import pytest
import torch
from benchmark_rows import hold_and_allocate, slow_counter
from parts import measuring
from parts.benchmarks.evaluation import ROWS, measure_row
from parts.benchmarks.inference import INFERENCE, TORCHVISION, build_inference, score_errors
from parts.benchmarks.inputs import build_model, realistic_boxes
from parts.benchmarks.own_process import build_row, own_process, rows_on
from parts.benchmarks.peak_memory import peak_memory
from parts.benchmarks.training import TRAINING
from parts.host_memory import can_set_freed_memory
from parts.measuring import Machine, Table, compare, count_flops, take_turns, to_markdown
from parts.published_style import PublishedStyle, published_loss
from processes import run_script
from small_model import build_small_model, random_batch

from sparse_rcnn.loss import set_prediction_loss

needs_glibc = pytest.mark.skipif(
    not can_set_freed_memory(), reason="freed memory is not left to a process here"
)
MACHINE = Machine(torch.device("cpu"), repeats=3, compiled=False, tiny=True)


@pytest.fixture
def model():
    return build_small_model(backbone="resnet50", backbone_norm="frozen").train()


def test_the_published_style_is_the_same_detector_and_the_same_loss(model) -> None:
    images = torch.randint(0, 256, (2, 3, 64, 96), dtype=torch.uint8)
    sizes = torch.tensor([[64, 96], [50, 80]])
    boxes = torch.tensor([[[5.0, 5, 40, 30], [20, 10, 70, 60]], [[1, 2, 30, 40], [0, 0, 0, 0]]])
    labels = torch.tensor([[0, 2], [1, 0]])
    valid = torch.tensor([[True, True], [True, False]])

    def gradients(total):
        model.zero_grad()
        total.backward()
        return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}

    predictions = model(images, sizes)
    total = set_prediction_loss(*predictions, boxes, labels, valid, sizes, valid.sum()).total
    mine = gradients(total)
    theirs_of_stages = PublishedStyle(model)([images[0], images[1, :, :50, :80]])
    for stage, (logits, found) in enumerate(theirs_of_stages):
        torch.testing.assert_close(logits, predictions.logits[stage], rtol=0, atol=1e-4)
        torch.testing.assert_close(found, predictions.boxes[stage], rtol=0, atol=1e-2)
    targets = [(b[v], k[v]) for b, k, v in zip(boxes, labels, valid, strict=True)]
    published = published_loss(theirs_of_stages, targets, sizes.flip(1).repeat(1, 2).float())
    torch.testing.assert_close(published, total, rtol=1e-4, atol=0)
    theirs = gradients(published)
    assert mine.keys() == theirs.keys()
    norm = torch.stack([g.norm() for g in theirs.values()]).norm().item()
    for name, gradient in theirs.items():
        assert (mine[name] - gradient).norm().item() <= 1e-3 * max(gradient.norm().item(), 1e-2 * norm), name


def test_boxes_are_realistic_and_stay_where_they_are() -> None:
    boxes = realistic_boxes(1000)
    side = (boxes[:, 2] * boxes[:, 3]).sqrt()
    assert 0.015 < side.min() < 0.03
    assert 0.7 < side.max() <= 1
    assert 0.4 < (side < 0.14).float().mean() < 0.6  # the geometric mean of both ends
    model = build_model(MACHINE, proposals=7, stages=2)
    with torch.no_grad():
        found = model(*random_batch(1, 64, 96)).boxes
    torch.testing.assert_close(found[1], found[0])
    assert found[0].std() > 0


def test_runs_take_turns_after_a_round_of_warming_up(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, calls = [0.0], []
    durations = {"a": iter([9.0, 1, 5, 2]), "b": iter([9.0, 4, 4, 7])}
    monkeypatch.setattr(measuring.time, "perf_counter", lambda: clock[0])

    def run(name: str) -> None:
        calls.append(name)
        clock[0] += next(durations[name])

    runs = {name: lambda name=name: run(name) for name in "ab"}
    assert take_turns(runs, 3, torch.device("cpu")) == {"a": 2, "b": 4}
    assert calls == ["a", "b"] * 4


def test_tables_compare_with_the_first_row(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = {"one": 2.0, "two in bf16": 0.5, "float32 product": 0.1, "bfloat16 product": 0.05}
    monkeypatch.setattr(measuring, "take_turns", lambda runs, *_: {name: seconds[name] for name in runs})
    flops = 10 * 2 * 256**3  # ten products
    nothing = dict.fromkeys(("one", "two in bf16"), lambda: None)
    table = compare("A title", nothing, MACHINE, images=4, flops=flops, errors={"two in bf16": "1e-06"})
    first, second = table.rows
    assert first["times as fast"] == 1
    assert second["times as fast"] == 4
    assert first["over floor"] == pytest.approx(2.0 / (10 * 0.1))
    assert second["over floor"] == pytest.approx(0.5 / (10 * 0.05))
    assert second["images/s"] == 8
    lines = to_markdown(table).splitlines()
    assert lines[0] == "### A title"
    assert lines[2] == "|  | ms | times as fast | images/s | over floor | difference |"
    assert lines[4] == "| one | 2000 | 1 | 2 | 2 |  |"
    assert lines[5] == "| two in bf16 | 500 | 4 | 8 | 1 | 1e-06 |"
    assert lines[-1] == "0 GFLOP; float32 product 0 GFLOP/s, bfloat16 product 1 GFLOP/s."
    assert to_markdown(Table("t", [{"x": 1.0}])).splitlines()[-1] == "| 1 |"


def test_flops_are_those_of_a_product() -> None:
    a, b = torch.rand(3, 5), torch.rand(5, 7)
    assert count_flops(lambda: a @ b) == 2 * 3 * 5 * 7


@pytest.mark.slow
def test_memory_that_stays_counts_with_that_of_a_call() -> None:
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("only Linux tells the peak of its memory")
    peak = peak_memory(hold_and_allocate, MACHINE, "a row", 60, 140)
    assert 195e6 <= peak < 230e6  # pages that were there before count as theirs


@pytest.mark.slow
@needs_glibc
def test_rows_live_in_processes_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = [own_process(slow_counter, MACHINE, name, 3) for name in ("a", "b, memory kept")]
    first, second = (run() for run in runs)
    assert len({os.getpid(), first[0], second[0]}) == 3
    assert (first[1:], second[1:]) == (("a", 3, 1), ("b, memory kept", 3, 1))
    assert runs[0]() == (first[0], "a", 3, 2)  # the process and its model are kept
    with monkeypatch.context() as patch:
        patch.setattr(measuring.time, "perf_counter", lambda: 0.0)  # here, no time passes
        assert 0.1 <= take_turns({"a": runs[0]}, 1, torch.device("cpu"))["a"] < 5
    os.kill(first[0], signal.SIGKILL)
    with pytest.raises(RuntimeError, match="the process of the row 'a' has ended"):
        runs[0]()


@pytest.mark.slow
def test_rows_of_freed_memory_are_left_out_and_refused_where_it_is_set_outside(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MALLOC_PERTURB_", "0")
    assert rows_on(MACHINE, ("eager", "eager, memory kept", "eager, memory returned")) == ["eager"]
    # Where a row is built, in its own process or here, an error names it.
    for build, name in ((own_process, "a row, memory kept"), (build_row, "a row, memory returned")):
        with pytest.raises(ValueError, match=f"{name}: this system does not leave that to a process"):
            build(slow_counter, MACHINE, name)


@needs_glibc
def test_rows_that_do_not_differ_are_left_out() -> None:
    names = ("eager", "eager, memory kept", "eager, memory kept, bf16", "compiled, memory returned")
    assert rows_on(MACHINE, names) == list(names[:3])
    gpu = Machine(torch.device("cuda"), repeats=3, compiled=True, tiny=True)
    assert rows_on(gpu, names) == ["eager", "eager, bf16", "compiled"]


@pytest.mark.slow
def test_rows_of_inference_are_the_same_detector() -> None:
    names = rows_on(MACHINE, INFERENCE)
    runs = {name: build_inference(MACHINE, name, 1, 64, 96, 10) for name in names}
    errors = {name: float(error) for name, error in score_errors(runs).items()}
    half = [name for name in errors if "bf16" in name]
    assert len(half) == 1
    assert 0 < errors.pop(half[0]) < 0.1
    assert len(errors) == 3
    assert max(errors.values()) < 1e-4
    assert [runs[name]() for name in TORCHVISION] == [1, 1]  # detections of one image


def read_tables(directory: Path) -> tuple[dict[str, list[dict]], str]:
    """Rows of each table by the first word of its title, and the file of text."""
    record = json.loads((directory / "runs" / "benchmark" / "benchmark.json").read_text())
    text = (directory / "runs" / "benchmark" / "benchmark.md").read_text()
    assert all(f"### {table['title']}" in text for table in record["tables"])
    rows: dict[str, list[dict]] = {}
    for table in record["tables"]:
        rows.setdefault(table["title"].split()[0], []).extend(table["rows"])
    return rows, text


@pytest.mark.slow
def test_the_script_writes_its_tables(tmp_path: Path) -> None:
    options = ("--tiny", "--no-compile", "--repeats", "1", "--only", "loss", "loading")
    done = run_script("benchmark.py", *options, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    tables, text = read_tables(tmp_path)
    assert list(tables) == ["Loss", "Reading"]
    assert all(row["ms"] > 0 for rows in tables.values() for row in rows)
    assert "benchmark.py --tiny" in text
    assert torch.__version__ in text


@pytest.mark.release
def test_the_script_writes_tables_of_rows_in_many_processes(tmp_path: Path) -> None:
    options = ("--tiny", "--no-compile", "--repeats", "1", "--only", "inference", "head", "roi", "training")
    done = run_script("benchmark.py", *options, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    tables, _ = read_tables(tmp_path)
    assert list(tables) == ["Inference,", "The", "RoIAlign,", "Training"]
    names = [row[""] for row in tables["Training"]]
    assert names == [name for kind in ("float32", "bfloat16") for name in rows_on(MACHINE, TRAINING[kind])]
    if Path("/proc/self/clear_refs").exists():
        assert all(row["peak GB"] > 1 for row in tables["Training"])  # weights, gradients and moments


def test_all_evaluators_find_the_same_ap_and_take_time():
    pytest.importorskip("faster_coco_eval")
    rows = [measure_row(name, (10, 72, 1000)) for name in ROWS]
    assert len({row["AP"] for row in rows}) == 1
    assert all(row["s of CPU"] > 0 for row in rows)
