"""gpu_check.py: limits, counts and targets, and a small run on a CPU."""

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path

import benchmark
import pytest
import torch
from parts.benchmarks.gpu.rows import FromTheFirst, growing, length_of_union, measure_row, with_ratios
from parts.gpu_check.parts import Deadline, Part, run_parts
from parts.gpu_check.plan import MEASURED, TESTS, make_plan
from parts.gpu_check.report import write_report
from parts.gpu_check.targets import judge
from parts.measuring import Machine, Table
from processes import failure_of, run_script

MACHINE = Machine(torch.device("cpu"), repeats=1, compiled=True, tiny=True)
PASSES, FAILS = ["true"], ["false"]


def is_running(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2][:3]
    except FileNotFoundError:
        return False


def run(parts: list[Part], directory: Path, seconds: float = 60.0) -> dict[str, str]:
    told: list[str] = []
    results = run_parts(parts, Deadline(seconds), directory, 2, lambda result: told.append(result.name))
    assert sorted(told) == sorted(part.name for part in parts)
    assert [result.is_failure for result in results] == [
        r.status not in ("passed", "skipped") for r in results
    ]
    return {result.name: result.status for result in results}


def test_a_part_that_hangs_is_ended_with_all_that_it_started(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    hangs = ["sh", "-c", f"trap '' TERM; sleep 600 & echo $! > {pid_file}; wait"]
    began = time.monotonic()
    statuses = run([Part("hangs", hangs, 1.0), Part("passes", PASSES, 30.0)], tmp_path)
    assert time.monotonic() - began < 10
    assert statuses == {"hangs": "ended at its limit", "passes": "passed"}
    pid = int(pid_file.read_text())
    assert not is_running(pid)


def test_a_part_that_fails_is_counted_and_the_others_go_on(tmp_path: Path) -> None:
    parts = [Part("a", FAILS, 30.0, together=True), Part("b", PASSES, 30.0, together=True)]
    parts += [Part("c", FAILS, 30.0), Part("d", PASSES, 30.0)]
    assert run(parts, tmp_path) == {"a": "failed", "b": "passed", "c": "failed", "d": "passed"}


@pytest.mark.slow
def test_parts_that_no_time_is_left_for_are_skipped(tmp_path: Path) -> None:
    parts = [Part("long", ["sleep", "600"], 600.0), Part("next", PASSES, 30.0)]
    began = time.monotonic()
    assert run(parts, tmp_path, 6.0) == {"long": "ended at its limit", "next": "skipped"}
    assert time.monotonic() - began < 12


def test_a_signal_ends_what_runs_and_the_rest_is_skipped(tmp_path: Path) -> None:
    deadline = Deadline(60.0)
    threading.Timer(0.5, deadline.end_now).start()
    parts = [Part("long", ["sleep", "600"], 600.0, together=True), Part("next", PASSES, 30.0)]
    results = run_parts(parts, deadline, tmp_path, 2, lambda _: None)
    assert [result.status for result in results] == ["ended at its limit", "skipped"]


def test_what_a_part_leaves_behind_is_ended_too(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    leaves = ["sh", "-c", f"sleep 600 & echo $! > {pid_file}"]
    assert run([Part("leaves", leaves, 30.0)], tmp_path) == {"leaves": "passed"}
    time.sleep(0.2)
    assert not is_running(int(pid_file.read_text()))


@pytest.mark.slow
def test_a_row_that_fails_says_why_and_the_others_go_on() -> None:
    def refuse():
        raise RuntimeError("CUDA out of memory.\nand more")

    rows = [
        measure_row("bad", refuse, MACHINE),
        measure_row("good", lambda: lambda: time.sleep(0.01), MACHINE, 2),
    ]
    bad, good = with_ratios("a title", rows).rows
    assert bad == {"": "bad", "failed": "RuntimeError: CUDA out of memory."}
    assert 10 <= good["ms"] < 1000
    assert good["images/s"] == pytest.approx(2000 / good["ms"])
    assert good["times as fast"] == 1


@pytest.mark.slow
def test_a_table_is_there_after_each_row_and_the_next_one_may_be_the_end() -> None:
    def end() -> Callable[[], None]:
        raise KeyboardInterrupt

    def pause() -> Callable[[], None]:
        return lambda: time.sleep(0.001)

    tables = growing("a title", {"one": pause, "two": pause, "three": end}, MACHINE, images=3)
    assert [row[""] for row in next(tables).rows] == ["one"]
    two = next(tables)
    assert [row["times as fast"] for row in two.rows] == [1, two.rows[0]["ms"] / two.rows[1]["ms"]]
    with pytest.raises(KeyboardInterrupt):
        next(tables)


def test_what_the_gpu_works_counts_once_where_kernels_overlap() -> None:
    assert length_of_union([]) == 0
    assert length_of_union([(0, 2), (1, 3), (1, 2), (5, 6)]) == 4


def test_scores_are_compared_with_the_first_row() -> None:
    difference = FromTheFirst()
    assert difference(torch.zeros(3)) == "0e+00"
    assert difference(torch.tensor([0.0, 100.0, 0.0])) == "5e-01"


def test_targets_are_met_or_not_or_not_measured() -> None:
    one = {
        "published style, as published": {"ms": 40.0},
        "bf16, CUDA graph": {"ms": 8.0},
        "bf16, compiled": {"ms": 5.0},
    }
    step = {
        "published style, as published": {"ms": 400.0},
        "bf16, eager": {"ms": 250.0, "images/s": 64.0, "busy, %": 70.0, "host waits": 2},
    }
    tables = {
        "Inference, 1 × 800×1344, 100 proposals": one,
        "Training step, 16 × 800×1344, 100 proposals": step,
    }
    found = [(target.measured, target.met) for target in judge(tables)]
    assert found == [
        (5.0, True),
        (8.0, True),
        (64.0, False),
        (1.6, False),
        (70.0, False),
        (2, False),
        (None, None),
    ]
    assert {target.met for target in judge({})} == {None}


def test_the_report_has_what_was_measured_until_a_part_was_ended(tmp_path: Path) -> None:
    parts = make_plan("cuda", False, 10, tmp_path)
    tests = [part for part in parts if part.name.startswith("tests ")]
    assert len(tests) == len(TESTS) == len(list((Path(__file__).parents[1] / "gpu").glob("test_*.py")))
    assert all(part.together for part in parts[: -len(MEASURED)])
    (tmp_path / "figures.xml").write_text(
        '<testsuites><testsuite><testcase name="test_a"><properties>'
        '<property name="largest" value="1e-06"/></properties></testcase>'
        '<testcase name="test_b"><failure message="assert 2 == 1&#10;where"/></testcase>'
        "</testsuite></testsuites>"
    )
    (tmp_path / "compiled.xml").write_text("<testsuites><test")
    (tmp_path / "roi").mkdir()
    table = {"title": "RoIAlign", "rows": [{"": "x", "ms": 1.0}, {"": "y", "failed": "no"}], "note": ""}
    record = {"header": "`python x` on a card; versions; medians", "tables": [table]}
    (tmp_path / "roi" / "benchmark.json").write_text(json.dumps(record))
    lines = write_report(tmp_path, tmp_path / "out", parts, [])
    assert lines[0] == "figures: test_b: assert 2 == 1"
    assert lines[1] == "RoIAlign: y: no"
    assert lines[2] == "tests: 1 passed, 1 failed, 0 skipped"
    assert lines[-1].startswith("not measured")
    text = (tmp_path / "out" / "gpu_check.md").read_text()
    assert text.startswith("a card; versions.")
    assert "largest 1e-06" in text
    assert len(list((tmp_path / "out").iterdir())) == 3


def test_what_was_cut_off_while_it_was_written_ends_no_report(tmp_path: Path) -> None:
    parts = [Part("roi", PASSES, 1.0), Part("head", PASSES, 1.0)]
    for part, text in zip(parts, ('{"header": "`python x` on', '{"header": "", "tables": []}'), strict=True):
        (tmp_path / part.name).mkdir()
        (tmp_path / part.name / "benchmark.json").write_text(text)
    (tmp_path / "cut.xml").write_text('<testsuite><testcase name="test_a">')
    (tmp_path / "mute.xml").write_text(
        '<testsuite><testcase name="test_b"><failure message=""/></testcase></testsuite>'
    )
    lines = write_report(tmp_path, tmp_path / "out", parts, [])
    assert lines[0] == "mute: test_b: "
    assert "tests: 0 passed, 1 failed, 0 skipped" in lines


@pytest.mark.skipif(torch.cuda.is_available(), reason="here is a GPU")
def test_without_a_gpu_one_line_says_so() -> None:
    said = failure_of("gpu_check.py")
    assert "finds no GPU" in said
    assert len(said.splitlines()) == 1


def test_a_cpu_is_for_tiny_runs_only_and_parts_have_names() -> None:
    assert "--tiny" in failure_of("gpu_check.py", "--device", "cpu")
    assert "no such part" in failure_of("gpu_check.py", "--device", "cpu", "--tiny", "--only", "x")


def tables_of(name: str) -> list[Table]:
    """In this process: starting one takes longer than a tiny table."""
    tables = list(benchmark.GPU_SECTIONS[name](MACHINE))
    assert [row for table in tables for row in table.rows if "failed" in row] == []
    return tables


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted({*benchmark.GPU_SECTIONS} - {"gpu-roi", "gpu-train-script"}))
def test_every_table_runs_in_small(name: str) -> None:
    rows = [row for table in tables_of(name) for row in table.rows]
    assert rows
    assert all(row["ms"] > 0 for row in rows)


@pytest.mark.slow
def test_the_training_script_runs_in_small() -> None:
    reading, training = tables_of("gpu-train-script")
    assert all(row["images/s"] > 0 for row in (*reading.rows, *training.rows))
    assert training.rows[0]["peak GB"] > 0


@pytest.mark.slow
def test_the_command_runs_in_small(tmp_path: Path) -> None:
    options = ("--device", "cpu", "--tiny", "--repeats", "1", "--workers", "2", "--output", tmp_path)
    names = ("roi", "tests repeatability")
    done = run_script("gpu_check.py", *options, "--only", *names, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    for name in names:
        assert f"{name}: passed" in done.stdout
    record = json.loads((tmp_path / "gpu_check.json").read_text())
    assert {part["name"] for part in record["parts"]} == {*names}
    assert [test["outcome"] for test in record["tests"]] == ["passed"] * 2
    assert "gradients that differ" in record["tests"][0]["measured"]
    titles = [f"RoIAlign, 1 × 64×96, 10 boxes, forward{more}" for more in (" and backward", "")]
    assert [table["title"] for table in record["tables"]] == titles
    assert [len(table["rows"]) for table in record["tables"]] == [2, 2]
    assert f"torch {torch.__version__}" in (tmp_path / "gpu_check.md").read_text()
    assert "=====" in (tmp_path / "gpu_check.log").read_text()
