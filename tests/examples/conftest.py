"""A tiny run of train.py. The tests of all scripts use it."""

from pathlib import Path

import pytest
from processes import TINY, run_here, run_two


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory in which the main job ran on tiny settings."""
    directory = tmp_path_factory.mktemp("train")
    done = run_here("train.py", *TINY, cwd=directory)
    assert done.returncode == 0, done.stderr
    assert "AP50" in done.stdout
    return directory


@pytest.fixture(scope="session")
def trained_by_two(trained: Path) -> Path:
    """The same directory, after a run in two processes."""
    done = run_two("train.py", *TINY, "--output", "runs/two", "--device", "cpu", cwd=trained)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("AP50") >= 1
    return trained
