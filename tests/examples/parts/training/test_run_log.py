"""The log of a run, also on a full disk."""

import errno
import json
import math
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from parts.training.run_log import LINES, RunLog
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator


def training_entry(iteration: int, **changes: Any) -> dict[str, Any]:
    return {
        **{"iteration": iteration, "loss": 9.0 / iteration, "classification": 1.0, "l1": 2.0, "giou": 0.5},
        **{"learning_rate": 1e-4, "images_per_second": 3.5, "l1_by_stage": [4.0, 2.0]},
        **{"matched_iou_by_stage": [0.25, 0.5]},
        **changes,
    }


def metrics_of(iteration: int, **changes: Any) -> dict[str, Any]:
    return {"iteration": iteration, "AP": 0.25, "AP50": 0.5, "AP75": 0.125, **changes}


def open_log(output: Path, start: int = 0, iterations: int = 10) -> RunLog:
    return RunLog(output, start, iterations, rank=0)


def refuse_nan(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def read_lines(output: Path) -> list[dict[str, Any]]:
    """The entries of the file, as a reader that keeps to the standard reads them."""
    lines = (output / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line, parse_constant=refuse_nan) for line in lines]


def iterations_in(output: Path) -> list[int]:
    return [entry["iteration"] for entry in read_lines(output)]


def scalars_of(output: Path) -> dict[str, dict[int, float]]:
    """TensorBoard's curves: by name, then by iteration."""
    events = EventAccumulator(str(output)).Reload()
    return {tag: {x.step: x.value for x in events.Scalars(tag)} for tag in events.Tags()["scalars"]}


def full_disk(*arguments: Any, **options: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def fill_the_disk(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Path, "open", full_disk)
    patch.setattr(Path, "write_text", full_disk)


def test_entries_are_lines_of_json(tmp_path: Path) -> None:
    run_log = open_log(tmp_path)
    entries = [training_entry(1), metrics_of(1), training_entry(2)]
    for entry, group in zip(entries, ("train", "val", "train"), strict=True):
        run_log.record(entry, group)
        assert read_lines(tmp_path)[-1] == entry  # at once, not at the end
    run_log.close()
    assert read_lines(tmp_path) == entries == run_log.entries


def test_what_came_after_the_start_is_dropped_on_going_on(tmp_path: Path) -> None:
    run_log = open_log(tmp_path)
    for iteration in (2, 4, 6, 8):
        run_log.record(training_entry(iteration), "train")
    run_log.record(metrics_of(6), "val")
    run_log.close()
    run_log = open_log(tmp_path, start=6)
    assert [entry["iteration"] for entry in run_log.entries] == [2, 4, 6, 6]
    assert iterations_in(tmp_path) == [2, 4, 6, 6]
    run_log.record(training_entry(8, loss=0.125), "train")
    run_log.close()
    assert iterations_in(tmp_path) == [2, 4, 6, 6, 8]
    assert read_lines(tmp_path)[-1]["loss"] == 0.125
    assert run_log.progress.n == 6
    assert not list(tmp_path.glob("*.tmp"))


def test_tensorboard_forgets_what_came_after_the_start_too(tmp_path: Path, monkeypatch) -> None:
    run_log = open_log(tmp_path)
    for iteration in (2, 4, 6, 8):
        run_log.record(training_entry(iteration, loss=1.0), "train")
    run_log.close()
    # Names of files have the host and a counter of each process. Here it is another process.
    monkeypatch.setattr("socket.gethostname", lambda: "zz-later")
    run_log = open_log(tmp_path, start=4)
    run_log.record(training_entry(7, loss=2.0), "train")
    run_log.close()
    assert scalars_of(tmp_path)["train/loss"] == {2: 1.0, 4: 1.0, 7: 2.0}


@pytest.mark.parametrize("torn", ['{"iteration": 4, "lo', '{"iteration"', "\0\0\0\0", ""])
def test_a_last_line_that_was_cut_off_is_left_out(tmp_path: Path, torn: str) -> None:
    whole = training_entry(2)
    (tmp_path / "metrics.jsonl").write_text(json.dumps(whole) + "\n" + torn)
    run_log = open_log(tmp_path, start=5)
    assert run_log.entries == [whole]
    run_log.record(training_entry(6), "train")
    run_log.close()
    assert iterations_in(tmp_path) == [2, 6]


def test_what_has_no_value_becomes_null(tmp_path: Path) -> None:
    run_log = open_log(tmp_path)
    run_log.record(metrics_of(1, AP75=math.nan), "val")
    run_log.close()
    assert read_lines(tmp_path) == [metrics_of(1, AP75=None)]


def test_what_has_no_value_becomes_null_in_lists_too(tmp_path: Path) -> None:
    run_log = open_log(tmp_path)
    run_log.record(training_entry(1, matched_iou_by_stage=[math.nan, 0.5]), "train")
    run_log.close()
    assert read_lines(tmp_path) == [training_entry(1, matched_iou_by_stage=[None, 0.5])]


@pytest.mark.parametrize("norm", [math.inf, math.nan])
def test_the_entry_of_a_bad_batch_is_json_too(tmp_path: Path, norm: float) -> None:
    run_log = open_log(tmp_path)
    run_log.record({"iteration": 3, "image_ids": [5, 6], "gradient_norm": norm, "dump": None}, "train")
    run_log.close()
    (entry,) = read_lines(tmp_path)
    assert entry["image_ids"] == [5, 6]
    assert entry["gradient_norm"] is None or isinstance(entry["gradient_norm"], str)


def test_tensorboard_gets_a_curve_for_every_number_and_one_per_stage(tmp_path: Path) -> None:
    run_log = open_log(tmp_path)
    for iteration in (1, 2):
        run_log.record(training_entry(iteration, l1_by_stage=[iteration, 0.5], dump=None), "train")
    run_log.record(metrics_of(2), "val")
    run_log.picture("predictions", PIL.Image.new("RGB", (30, 20), "red"), 2)
    run_log.close()
    curves = scalars_of(tmp_path)
    assert curves["train/loss"] == {1: 9.0, 2: 4.5}
    assert curves["train/l1"] == {1: 2.0, 2: 2.0}
    assert curves["train/l1/stage_1"] == {1: 1.0, 2: 2.0}
    assert curves["train/l1/stage_2"] == {1: 0.5, 2: 0.5}
    assert curves["train/matched_iou/stage_2"] == {1: 0.5, 2: 0.5}
    assert curves["val/AP"] == {2: 0.25}
    assert not any("iteration" in tag or "stage_3" in tag or "dump" in tag for tag in curves)
    (image,) = EventAccumulator(str(tmp_path)).Reload().Images("predictions")
    assert (image.step, image.width, image.height) == (2, 30, 20)


def test_a_class_name_of_any_characters_has_a_curve(tmp_path: Path) -> None:
    run_log = open_log(tmp_path)
    entry = metrics_of(1, **{"AP/\ud800": 0.5, "AP/a\nb": 0.25, "AP/日本": 1.0})
    run_log.record(entry, "val")
    run_log.close()
    assert read_lines(tmp_path) == [entry]
    curves = scalars_of(tmp_path)
    assert [curves[f"val/AP/{name}"][1] for name in ("\\ud800", "a\\nb", "日本")] == [0.5, 0.25, 1.0]


def test_the_ids_of_a_bad_batch_are_not_curves(tmp_path: Path) -> None:
    run_log = open_log(tmp_path)
    entry = {"iteration": 3, "skipped": 1, "image_ids": [117, 40], "gradient_norm": math.inf, "dump": "a.pth"}
    run_log.record(entry, "train")
    run_log.close()
    curves = scalars_of(tmp_path)
    assert curves["train/skipped"] == {3: 1.0}
    assert not [tag for tag in curves if "image_ids" in tag]


def test_a_full_disk_is_said_once_and_what_was_missed_comes_with_the_next_entry(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run_log = open_log(tmp_path)
    run_log.record(training_entry(1), "train")
    with monkeypatch.context() as patch:
        fill_the_disk(patch)
        for iteration in (2, 3, 4):
            run_log.record(training_entry(iteration), "train")
    said = capsys.readouterr().out
    assert said.count("training goes on") == 1
    assert f"cannot write to {tmp_path}" in said
    assert iterations_in(tmp_path) == [1]
    run_log.record(training_entry(5), "train")
    assert iterations_in(tmp_path) == [1, 2, 3, 4, 5]
    run_log.record(training_entry(6), "train")
    assert iterations_in(tmp_path) == [1, 2, 3, 4, 5, 6]
    with monkeypatch.context() as patch:
        fill_the_disk(patch)
        run_log.record(training_entry(7), "train")
    assert capsys.readouterr().out.count("training goes on") == 1  # another time, said again
    run_log.close()
    assert iterations_in(tmp_path) == [1, 2, 3, 4, 5, 6, 7]


def test_what_was_missed_at_the_end_is_written_on_closing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_log = open_log(tmp_path)
    with monkeypatch.context() as patch:
        fill_the_disk(patch)
        run_log.record(training_entry(1), "train")
        run_log.record(metrics_of(1), "val")
    run_log.close()
    assert read_lines(tmp_path) == [training_entry(1), metrics_of(1)]


def test_closing_on_a_disk_that_is_still_full_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_log = open_log(tmp_path)
    with monkeypatch.context() as patch:
        fill_the_disk(patch)
        run_log.record(training_entry(1), "train")
        run_log.close()


def test_closing_again_does_nothing(tmp_path: Path) -> None:
    run_log = open_log(tmp_path)
    run_log.record(training_entry(1), "train")
    run_log.close()
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    run_log.close()
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def broken_tensorboard(run_log: RunLog, patch: pytest.MonkeyPatch) -> None:
    """Its thread ends with the first error. Each later call raises this error again."""
    writer = run_log._loggers[0]._writer
    writer.close()
    for function in ("add_scalar", "add_image", "flush"):
        patch.setattr(writer, function, full_disk)


def test_a_tensorboard_that_gave_up_is_said_once_and_costs_no_entry(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run_log = open_log(tmp_path)
    broken_tensorboard(run_log, monkeypatch)
    for iteration in range(1, 6):
        run_log.record(training_entry(iteration), "train")
        assert iterations_in(tmp_path) == [*range(1, iteration + 1)]
    run_log.close()
    assert iterations_in(tmp_path) == [1, 2, 3, 4, 5]
    assert capsys.readouterr().out.count("training goes on") == 1


def test_a_picture_that_tensorboard_cannot_write_does_not_end_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_log = open_log(tmp_path)
    broken_tensorboard(run_log, monkeypatch)
    run_log.picture("predictions", PIL.Image.new("RGB", (30, 20)), 1)
    run_log.close()


def test_other_processes_write_and_say_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run_log = RunLog(None, 0, 10, rank=1)
    run_log.record(training_entry(1), "train")
    run_log.show(training_entry(1))
    run_log.picture("predictions", PIL.Image.new("RGB", (30, 20)), 1)
    run_log.say("something")
    run_log.progress.update()
    run_log.close()
    assert capfd.readouterr() == ("", "")
    assert list(tmp_path.iterdir()) == []
    assert [entry["iteration"] for entry in run_log.entries] == [1]


def test_the_progress_bar_shows_the_losses(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    run_log = open_log(tmp_path, start=4)
    run_log.show(training_entry(3))
    run_log.say("a sentence")
    run_log.close()
    captured = capsys.readouterr()
    assert "4/10" in captured.err
    assert "loss 3.00, class 1.00, L1 2.00, GIoU 0.50, lr 1.0e-04, 3.5 images/s" in captured.err
    assert captured.out == "a sentence\n"


def test_a_log_that_is_no_terminal_gets_few_lines_and_no_bar(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_log = open_log(tmp_path, start=0, iterations=10 * LINES)
    for iteration in range(1, 10 * LINES + 1):
        run_log.progress.update()
        run_log.show(training_entry(iteration))
    run_log.close()
    captured = capsys.readouterr()
    assert captured.err == ""
    lines = captured.out.splitlines()
    assert len(lines) == LINES
    assert lines[0].startswith(f"iteration 10 of {10 * LINES}: loss 0.90, class 1.00")
    assert lines[-1].startswith(f"iteration {10 * LINES} of")


def test_metrics_of_the_same_iteration_take_the_place_of_those_before(tmp_path: Path) -> None:
    """A run was killed after its evaluation and before its end: it evaluates again."""
    run_log = open_log(tmp_path)
    entries = [metrics_of(5), training_entry(10), metrics_of(10, AP=0.25)]
    for entry in entries:
        run_log.record(entry, "train" if "loss" in entry else "val")
    run_log.close()
    run_log = open_log(tmp_path, start=10)
    run_log.record(metrics_of(10, AP=0.5), "val")
    run_log.close()
    assert read_lines(tmp_path) == [*entries[:2], metrics_of(10, AP=0.5)] == run_log.entries


NULLS = {"loss": None, "classification": None, "matched_iou_by_stage": [None, math.nan]}
SKIPPED = {"iteration": 2, "image_ids": [3], "skipped": 1, "gradient_norm": math.nan, "dump": None}


def test_legends_cover_neither_curves_nor_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figures: list[Any] = []
    monkeypatch.setattr("matplotlib.pyplot.close", figures.append)
    run_log = open_log(tmp_path)
    run_log.record(training_entry(1, matched_iou_by_stage=[0.5] * 6), "train")
    run_log.record(metrics_of(1), "val")
    run_log.plot(tmp_path / "training.png")
    run_log.close()
    renderer = figures[0].canvas.get_renderer()
    plots = [axes.get_window_extent(renderer) for axes in figures[0].axes]
    legends = [axes.get_legend().get_window_extent(renderer) for axes in figures[0].axes]
    assert len(legends) == 3
    for number, legend in enumerate(legends):
        assert not any(legend.overlaps(other) for other in [*plots, *legends[:number]])
        assert figures[0].bbox.x0 <= legend.x0 < legend.x1 <= figures[0].bbox.x1
        assert figures[0].bbox.y0 <= legend.y0


@pytest.mark.parametrize(
    "entries",
    [
        pytest.param(
            [training_entry(1), SKIPPED, training_entry(2)], id="no_evaluation", marks=pytest.mark.slow
        ),
        pytest.param([training_entry(1), training_entry(2, **NULLS), metrics_of(2, AP=None)], id="null"),
        # The figures of a single bad step.
        pytest.param([SKIPPED, metrics_of(1)], id="only_evaluation", marks=pytest.mark.slow),
    ],
)
def test_the_plot_is_a_picture_of_whatever_there_is(tmp_path: Path, entries: list[dict[str, Any]]) -> None:
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    run_log = open_log(tmp_path, start=5)
    run_log.close()
    run_log.plot(tmp_path / "training.png")
    with PIL.Image.open(tmp_path / "training.png") as image:
        pixels = np.asarray(image.convert("RGB"))
    assert pixels.shape[1] > 2 * pixels.shape[0] > 200
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 4


@pytest.mark.parametrize(
    ("figures", "expected"),
    [
        ([], 0),
        ([0.1], 0),
        ([0.1, 0.3, 0.2], 1),
        ([0.3, 0.3, math.nan], 2),
        ([math.nan, 0.1], 0),
        ([0.0, math.nan, 0.0], 0),
    ],
)
def test_evaluations_since_the_best(tmp_path: Path, figures: list[float], expected: int) -> None:
    run_log = open_log(tmp_path)
    for iteration, value in enumerate(figures):
        run_log.record(metrics_of(iteration, AP=value), "val")
    run_log.close()
    assert run_log.evaluations_since_best() == expected


def test_a_run_of_minutes_shows_the_end_that_is_expected_by_now(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_log = open_log(tmp_path, start=0, iterations=88)
    run_log.expect(140)
    run_log.show(training_entry(120))
    run_log.close()
    assert capsys.readouterr().out.startswith("iteration 120 of 140: ")
