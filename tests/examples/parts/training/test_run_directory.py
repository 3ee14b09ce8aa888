"""The directory of a run: figures are written first, pictures may fail."""

import json
import math
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from parts.training.arguments import parse_arguments
from parts.training.evaluation import Evaluated
from parts.training.processes import Processes
from parts.training.run_directory import RunDirectory, set_aside
from parts.training.run_log import RunLog
from PIL import Image

ALONE = Processes(0, 0, 1, torch.device("cpu"))


def run_in(output: Path, stack: ExitStack) -> RunDirectory:
    return RunDirectory(parse_arguments(None, ["--output", str(output)]), ALONE, stack)


def test_it_is_locked_from_the_beginning_to_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    locked: list[Path] = []
    monkeypatch.setattr("parts.training.run_directory.lock", lambda output: Noted(output, locked))
    for output in (tmp_path / "new", tmp_path / "empty"):
        if output.name == "empty":
            output.mkdir()
        with ExitStack() as stack:
            run_in(output, stack).begin(0, 1000)
            assert locked == [output]  # once: a second time is an error on Windows
        assert locked == []


def test_files_of_something_else_get_a_remark(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "photo.jpg").touch()
    for remarks in (1, 0):  # the second time, it has the files of a run that just began
        with ExitStack() as stack:
            run_in(tmp_path, stack).begin(0, 1000)
        assert capsys.readouterr().err.count("has files of something else") == remarks
        (tmp_path / "metrics.jsonl").touch()


class Noted:
    """Who is in a directory."""

    def __init__(self, output: Path, locked: list[Path]) -> None:
        self.output, self.locked = output, locked

    def __enter__(self) -> None:
        self.locked.append(self.output)

    def __exit__(self, *error: Any) -> None:
        self.locked.remove(self.output)


def test_figures_are_written_though_pictures_cannot_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*arguments: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(RunLog, "plot", fail)
    with ExitStack() as stack:
        directory = run_in(tmp_path / "run", stack)
        directory.begin(0, 1000)
        run_log = RunLog(directory.output, 0, 1200, 0)
        counts: Any = SimpleNamespace(
            bad_batches=SimpleNamespace(total=2),
            unreadable=SimpleNamespace(known={"a.jpg"}),
            seconds=90.0,
        )
        metrics = {"AP": 0.25, "AP50": math.nan, "left_out": 1}
        run_log.entries += [{"iteration": 600, "AP": 0.5}, {"iteration": 1200, "AP": 0.25}]
        (tmp_path / "run" / "best.pth").touch()
        directory.finish(counts, Evaluated(metrics, {"a": Image.new("RGB", (8, 8))}, 19), run_log)
        run_log.close()
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    counted = {"iterations": 1200, "skipped": 2, "unreadable": 1, "minutes": 1.5}
    assert summary == {**metrics, "AP50": None, **counted}
    said = capsys.readouterr()
    assert "not all pictures could be written: " in said.err
    assert "AP 0.250, AP50 nan on 19 images (1 unreadable ones left out) after 1,200 iterations" in said.out
    assert said.out.rstrip().endswith("best.pth, which has AP 0.500 after 600 iterations")
    # Without figures, a resumed run reads None. The last weights are the best then.
    run_log.entries = [{"iteration": 600, "AP": None}, {"iteration": 1200, "AP": math.nan}]
    directory.finish(counts, Evaluated({**metrics, "AP": math.nan}, {}, 19), run_log)
    assert capsys.readouterr().out.rstrip().endswith("best.pth")


def test_runs_are_set_aside_under_the_first_free_number(tmp_path: Path) -> None:
    (tmp_path / "run.2").mkdir()
    for expected in ("run.1", "run.3", "run.4"):
        output = tmp_path / "run"
        output.mkdir()
        (output / "of").write_text(expected)
        assert set_aside(output) == tmp_path / expected
        assert not output.exists()
        assert (tmp_path / expected / "of").read_text() == expected
    assert list((tmp_path / "run.2").iterdir()) == []


def test_the_working_directory_is_not_renamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "run" / "inside").mkdir(parents=True)
    for place, output in (("run", "."), ("run/inside", ".."), ("run/inside", str(tmp_path / "run"))):
        monkeypatch.chdir(tmp_path / place)
        with pytest.raises(ValueError, match="has a run of other options, and cannot be renamed from inside"):
            set_aside(Path(output))
    assert (tmp_path / "run" / "inside").is_dir()


def test_a_run_whose_name_has_a_dot_keeps_it(tmp_path: Path) -> None:
    (tmp_path / "lr0.1").mkdir()
    assert set_aside(tmp_path / "lr0.1") == tmp_path / "lr0.1.1"
