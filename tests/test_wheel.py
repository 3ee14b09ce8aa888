"""The wheel, built and installed, passes tests."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
# One file of three floors, seconds each.
TESTS = ("ops/test_detections.py", "nn/test_head.py", "data/loading/test_collate.py")
SHARED = ("conftest.py", "nn/conftest.py", "small_model.py", "strategies.py", "processes.py", "reference")


def run(*arguments: str | Path, cwd: Path, path: Path | None = None) -> str:
    """What a Python process prints, which sees the packages installed here, but not the tree."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST")}
    environment["PYTHONPATH"] = str(path) if path else ""
    done = subprocess.run(
        [sys.executable, *map(str, arguments)], cwd=cwd, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, since setuptools leaves folders in the tree and takes what lies in them."""
    source = tmp_path_factory.mktemp("source")
    shutil.copytree(
        ROOT / "sparse_rcnn", source / "sparse_rcnn", ignore=shutil.ignore_patterns("__pycache__")
    )
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    built = tmp_path_factory.mktemp("wheel")
    run("-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", built, source, cwd=source)
    (found,) = built.glob("*.whl")
    return found


@pytest.mark.slow
def test_wheel_holds_every_file_of_the_package_and_no_other(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
        licences = [name for name in archive.namelist() if name.endswith("LICENSE")]
    files = [
        path for path in (ROOT / "sparse_rcnn").rglob("*") if path.suffix == ".py" or path.name == "py.typed"
    ]
    assert held == {path.relative_to(ROOT).as_posix() for path in files}
    assert licences


@pytest.mark.slow
def test_installed_wheel_passes_tests(wheel: Path, tmp_path: Path) -> None:
    site, tests = tmp_path / "site", tmp_path / "tests"
    run("-m", "pip", "install", "-q", "--no-deps", "--no-index", "--target", site, wheel, cwd=tmp_path)
    for name in (*TESTS, *SHARED):
        copy = shutil.copytree if (ROOT / "tests" / name).is_dir() else shutil.copy
        (tests / name).parent.mkdir(parents=True, exist_ok=True)
        copy(ROOT / "tests" / name, tests / name)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    find = "from importlib.util import find_spec; print(find_spec('sparse_rcnn').origin)"
    assert Path(run("-c", find, cwd=tmp_path, path=site).strip()).is_relative_to(site)
    printed = run("-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", cwd=tmp_path, path=site)
    assert " passed" in printed
