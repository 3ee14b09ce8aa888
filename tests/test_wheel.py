"""The wheel, built and installed, passes tests."""

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from small_model import build_small_model

from sparse_rcnn import load_detector
from sparse_rcnn.nn import ImageSize, save_checkpoint

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[1]
# One file of three floors, seconds each.
TESTS = ("ops/test_detections.py", "nn/test_head.py", "data/loading/test_collate.py")
SHARED = ("conftest.py", "nn/conftest.py", "small_model.py", "strategies.py", "processes.py", "reference")


def run(*arguments: str | Path, cwd: Path, path: Path | None = None, status: int = 0) -> str:
    """The output of a Python process that finds the installed packages, but not the tree."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST")}
    environment["PYTHONPATH"] = str(path) if path else ""
    done = subprocess.run(
        [sys.executable, *map(str, arguments)], cwd=cwd, env=environment, capture_output=True, text=True
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr if status else done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Builds the wheel from a copy: setuptools leaves folders in the tree, and reads them the next time."""
    source = tmp_path_factory.mktemp("source")
    for folder in ("sparse_rcnn", "sparse_rcnn_commands"):
        shutil.copytree(ROOT / folder, source / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    built = tmp_path_factory.mktemp("wheel")
    run("-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", built, source, cwd=source)
    (found,) = built.glob("*.whl")
    return found


def test_wheel_holds_every_file_of_the_package_and_no_other(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
        licences = [name for name in archive.namelist() if name.endswith("LICENSE")]
    files = [
        path for path in (ROOT / "sparse_rcnn").rglob("*") if path.suffix == ".py" or path.name == "py.typed"
    ]
    needed = (".py", ".css", ".html", ".js")  # the last three are the page of evaluate.py --report
    commands = {
        path.relative_to(ROOT / "examples")
        for path in (ROOT / "examples").rglob("*")
        if path.suffix in needed
    }
    expected = {path.relative_to(ROOT) for path in files} | {
        "sparse_rcnn_commands" / path for path in commands
    }
    assert held == {path.as_posix() for path in expected}
    assert licences


@pytest.fixture(scope="module")
def site(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder where the wheel is installed. The console command is in its `bin`."""
    site = tmp_path_factory.mktemp("site")
    run("-m", "pip", "install", "-q", "--no-deps", "--no-index", "--target", site, wheel, cwd=site)
    return site


def test_console_command_detects(site: Path, tmp_path: Path) -> None:
    model = build_small_model(backbone_norm="frozen").eval()
    save_checkpoint(tmp_path / "mine.pth", model, ["cat", "dog", "bird"], image_size=ImageSize(96, 128))
    shutil.copy(ROOT / "docs" / "predictions.jpg", tmp_path / "a photo.jpg")
    command = site / "bin" / "sparse-rcnn"
    options = ("detect", "mine.pth", "a photo.jpg", "--threshold", "0", "--json", "--device", "cpu")
    printed = json.loads(run(command, *options, cwd=tmp_path, path=site))
    found = load_detector(tmp_path / "mine.pth", "cpu")(tmp_path / "a photo.jpg", threshold=0.0)
    assert len(found) > 5
    assert printed["detections"] == found.to_dict()["detections"]
    assert (tmp_path / "detections" / "a photo.png").is_file()


def test_console_command_lists_commands_and_names_what_is_missing(site: Path, tmp_path: Path) -> None:
    command = site / "bin" / "sparse-rcnn"
    listed = run(command, cwd=tmp_path, path=site)
    assert {"detect", "train", "evaluate", "export", "dataset", "info"} <= {
        *re.findall(r"^  (\w+) ", listed, re.M)
    }
    assert "did you mean evaluate?" in run(command, "evalute", cwd=tmp_path, path=site, status=1)
    # As if tqdm were not installed, and with the name that --help tells.
    start = "import runpy, sys; sys.argv = sys.argv[1:]; sys.modules['tqdm'] = None; "
    start += "runpy.run_module('sparse_rcnn_commands', run_name='__main__')"
    said = run("-c", start, "sparse-rcnn", "evaluate", "--help", cwd=tmp_path, path=site, status=1)
    assert said == "error: sparse-rcnn evaluate needs tqdm: pip install 'sparse_rcnn[examples]'\n"
    told = run(command, "info", "--help", cwd=tmp_path, path=site)
    assert told.startswith("usage: sparse-rcnn info ")
    assert "    sparse-rcnn info detector.onnx --json" in told


def test_installed_wheel_passes_tests(site: Path, tmp_path: Path) -> None:
    tests = tmp_path / "tests"
    for name in (*TESTS, *SHARED):
        copy = shutil.copytree if (ROOT / "tests" / name).is_dir() else shutil.copy
        (tests / name).parent.mkdir(parents=True, exist_ok=True)
        copy(ROOT / "tests" / name, tests / name)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    find = "from importlib.util import find_spec; print(find_spec('sparse_rcnn').origin)"
    assert Path(run("-c", find, cwd=tmp_path, path=site).strip()).is_relative_to(site)
    options = ("-q", "-n", "0", "-p", "no:cacheprovider", "-m", "not slow")
    printed = run("-m", "pytest", *options, cwd=tmp_path, path=site)
    assert " passed" in printed
