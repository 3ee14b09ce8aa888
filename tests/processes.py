"""Other processes: the scripts of examples/, and fresh interpreters that have imported nothing."""

import contextlib
import io
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
FAULTY = Path(__file__).resolve().parent / "faulty_training.py"  # train.py with faults
# The main job of train.py, in seconds.
TINY = (
    *("--shapes-images", "16", "--iterations", "4", "--batch-size", "4", "--log-interval", "2"),
    *("--hidden-dim", "32", "--num-proposals", "5", "--num-stages", "2", "--eval-interval", "0"),
    *("--warmup", "100"),
)
TWO_PROCESSES = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")


def run_script(
    script: str | Path,
    *arguments: str | Path,
    cwd: Path,
    launcher: tuple[str, ...] = (),
    environment: dict[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Runs a script of examples/ on one thread."""
    return _run([*launcher, str(EXAMPLES / script), *map(str, arguments)], cwd, environment)


def failure_of(script: str, *arguments: str) -> str:
    """What a script of examples/ says when it gives up, run here: a process of its own takes seconds."""
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stderr(io.StringIO()) as stderr:
        patch.setattr(sys, "argv", [script, *arguments])
        with pytest.raises(SystemExit) as stopped:  # any other exception would be a traceback
            runpy.run_path(str(EXAMPLES / script), run_name="__main__")
    said = stopped.value.code
    assert said not in (0, None)
    return said if isinstance(said, str) else stderr.getvalue()  # argparse's own end in a status


def run_python(code: str, *arguments: str | Path, cwd: Path) -> str:
    """Output of a fresh interpreter; an error of it is one here."""
    done = _run(["-c", code, *map(str, arguments)], cwd)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _run(
    arguments: list[str], cwd: Path, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env={**os.environ, "OMP_NUM_THREADS": "1", "MPLCONFIGDIR": str(cwd), **(environment or {})},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
