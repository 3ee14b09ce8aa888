"""Loggers pass on all figures: to stand-ins of their packages, and to packages that are installed."""

import json
import math
import sys
from contextlib import ExitStack
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import PIL.Image
import pytest
from parts.training.arguments import parse_arguments
from parts.training.loggers.logger import LOGGERS, open_logger
from parts.training.run_log import RunLog

SETTINGS = {"iterations": 4, "sizes": [96, 128], "weights": None}
PICTURE = PIL.Image.new("RGB", (30, 20))
NAMES = {"val/AP": 0.5, "val/AP/cat": 0.25, "val/AP/😀 [x]": 0.125, "val/AP/never there": math.nan}


class Service:
    """Stands in for a package. It keeps the calls by run and name."""

    def __init__(self) -> None:
        self.runs: dict[str, dict[str, Any]] = {}
        self.finished: list[str] = []
        self.failed: list[str] = []

    def init(self, *, name: str, config: dict[str, Any], id: str | None = None, **_: Any) -> Any:
        key = id or f"id of {name}"
        values = self.runs.setdefault(key, {"config": config})
        return SimpleNamespace(
            id=key,
            log=lambda new, step: values.update({(step, name): value for name, value in new.items()}),
            finish=lambda exit_code=0: self.end(key, exit_code != 0),
        )

    def end(self, key: str, failed: bool) -> None:
        (self.failed if failed else self.finished).append(key)


class Client:
    """Stands in for MLflow and refuses the same values."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.get_experiment_by_name = lambda name: None
        self.create_experiment = lambda name: "7"
        self.update_run = lambda run, status: None
        self.set_terminated = lambda run, status: service.end(
            run, {"FINISHED": False, "FAILED": True}[status]
        )

    def create_run(self, experiment: str, run_name: str) -> Any:
        self.service.runs.setdefault(f"id of {run_name}", {"config": {}})
        return SimpleNamespace(info=SimpleNamespace(run_id=f"id of {run_name}"))

    def log_param(self, run: str, name: str, value: str) -> None:
        self.service.runs[run]["config"][name] = value

    def log_batch(self, run: str, metrics: list[Any]) -> None:
        assert 0 < len(metrics) <= 1000
        for key, value, _, step in metrics:
            assert all(character.isascii() for character in key)
            assert math.isfinite(value)
            self.service.runs[run][(step, key)] = value

    def log_image(self, run: str, picture: PIL.Image.Image, file: str) -> None:
        self.service.runs[run][file] = picture


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Service:
    service = Service()
    for name, module in LOGGERS.items():
        package: Any = ModuleType(name)
        package.__spec__ = SimpleNamespace(name=name)
        package.init, package.Image = service.init, lambda picture: picture
        package.MlflowClient = lambda: Client(service)
        package.entities = SimpleNamespace(Metric=lambda *values: values)
        monkeypatch.setitem(sys.modules, name, package)
        monkeypatch.delitem(sys.modules, f"parts.training.loggers.{module}", raising=False)
    yield service
    for module in LOGGERS.values():
        sys.modules.pop(f"parts.training.loggers.{module}", None)


@pytest.mark.parametrize("name", ["wandb", "trackio"])
def test_numbers_and_pictures_arrive_at_their_step_in_the_run_of_that_name(
    service: Service, tmp_path: Path, name: str
) -> None:
    logger = open_logger(name, tmp_path, SETTINGS)
    logger.numbers(NAMES, 2)
    logger.picture("predictions", PICTURE, 2)
    logger.close(failed=False)
    ((key, run),) = service.runs.items()
    assert key == f"id of {tmp_path.name}"
    assert run == {"config": SETTINGS, (2, "predictions"): PICTURE, **{(2, k): v for k, v in NAMES.items()}}
    assert service.finished == [key]


@pytest.mark.parametrize("name", LOGGERS)
def test_a_run_that_goes_on_goes_on_there(service: Service, tmp_path: Path, name: str) -> None:
    for iteration in (2, 4):
        logger = open_logger(name, tmp_path, SETTINGS)
        logger.numbers({"train/loss": float(iteration)}, iteration)
        logger.close(failed=False)
    (run,) = service.runs.values()
    assert (run[(2, "train/loss")], run[(4, "train/loss")]) == (2.0, 4.0)


def test_mlflow_gets_names_that_it_takes(service: Service, tmp_path: Path) -> None:
    logger = open_logger("mlflow", tmp_path, SETTINGS)
    logger.numbers({**NAMES, **{f"val/AP/class {k}": 0.5 for k in range(1203)}}, 3)
    logger.picture("predictions", PICTURE, 3)
    (run,) = service.runs.values()
    assert run["config"] == {"iterations": "4", "sizes": "[96, 128]", "weights": "None"}
    assert run[(3, "val/AP")] == 0.5
    assert run[(3, "val/AP.cat")] == 0.25
    assert run[(3, "val/AP._ _x_")] == 0.125
    assert (3, "val/AP.never there") not in run
    assert (3, "val/AP.class 1202") in run
    assert run["predictions/00000003.png"] is PICTURE


def test_a_run_writes_to_all_its_loggers_and_outlives_one_that_fails(
    service: Service, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    loggers = [open_logger(name, tmp_path, SETTINGS) for name in ("wandb", "mlflow")]

    def fail(*_: Any) -> None:
        raise RuntimeError("the network is down")

    run_log = RunLog(tmp_path, 0, 4, 0, loggers)
    run_log.record({"iteration": 1, "loss": 3.0, "l1_by_stage": [2.0, 1.0]}, "train")
    monkeypatch.setattr(loggers[1], "numbers", fail)
    run_log.record({"iteration": 2, "AP": 0.5, "AP/cat": 0.25}, "val")
    run_log.record({"iteration": 3, "loss": 2.0}, "train")
    run_log.close()
    assert capsys.readouterr().out.count("the network is down; training goes on without it") == 1
    run = service.runs[f"id of {tmp_path.name}"]
    assert run[(1, "train/l1/stage_2")] == 1.0
    assert run[(1, "train/l1.stage_2")] == 1.0
    assert run[(2, "val/AP/cat")] == 0.25
    assert run[(3, "train/loss")] == 2.0
    assert service.finished == [f"id of {tmp_path.name}"]  # of the other
    assert [
        json.loads(line)["iteration"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()
    ] == [1, 2, 3]


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_a_run_that_ends_with_an_error_has_failed(service: Service, tmp_path: Path, name: str) -> None:
    run_log = RunLog(tmp_path, 0, 4, 0, [open_logger(name, tmp_path, SETTINGS)])

    def fail() -> None:
        with ExitStack() as stack:
            stack.callback(run_log.close)  # as train.py does
            raise ValueError("a bad batch")

    with pytest.raises(ValueError, match="a bad batch"):
        fail()
    assert (service.finished, service.failed) == ([], [f"id of {tmp_path.name}"])


def test_a_logger_whose_package_is_missing_is_refused_at_once(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(SystemExit):
        parse_arguments(None, ["--logger", "wandb", "trackio"])
    assert "--logger wandb trackio: not installed. pip install wandb trackio" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", LOGGERS)
def test_the_package_itself_takes_it_without_a_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"file:{tmp_path}/mlruns")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    pytest.importorskip(name, exc_type=ImportError)
    output = tmp_path / "my run"
    output.mkdir()
    for iteration in (2, 4):
        logger = open_logger(name, output, SETTINGS)
        logger.numbers(NAMES, iteration)
        logger.picture("predictions", PICTURE, iteration)
        logger.close(failed=False)
    written = {"wandb": "my run/wandb/**/*.wandb", "mlflow": "mlruns/*/*/metrics/val/AP.cat"}
    files = list(tmp_path.glob(written.get(name, "trackio/**/*.db")))
    assert files
    if name == "mlflow":
        assert [line.split()[1:] for line in files[0].read_text().splitlines()] == [
            ["0.25", "2"],
            ["0.25", "4"],
        ]
