"""Other processes: the scripts of examples/, and fresh interpreters."""

import atexit
import contextlib
import io
import multiprocessing
import os
import runpy
import socket
import subprocess
import sys
import tempfile
import warnings
from multiprocessing import forkserver
from pathlib import Path
from typing import IO

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


# The imports of the scripts take seconds. One process, the server, does them. All others are its forks.
IMPORTED = (
    "torch",
    "torchvision",
    "torch._dynamo",
    "scipy.optimize",
    "pycocotools.cocoeval",
    "sparse_rcnn.data",
)
IMPORTED += ("matplotlib.pyplot", "torch.utils.tensorboard", "tqdm", "pytest")
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(list(IMPORTED))


def run_script(
    script: str | Path,
    *arguments: str | Path,
    cwd: Path,
    launcher: tuple[str, ...] = (),
    environment: dict[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Runs a script of examples/ on one thread: with a launcher as users do, else in a fork of the server."""
    if launcher:
        return _run([*launcher, str(EXAMPLES / script), *map(str, arguments)], cwd, environment)
    return _fork(script, arguments, cwd, [environment or {}])


def run_two(
    script: str | Path, *arguments: str | Path, cwd: Path, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Runs a script in two processes that know each other, as torchrun does, in forks of the server."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    ranks = [{**shared, **(environment or {}), "RANK": rank, "LOCAL_RANK": rank} for rank in "01"]
    return _fork(script, arguments, cwd, ranks)


def _fork(
    script: str | Path, arguments: tuple[str | Path, ...], cwd: Path, environments: list[dict[str, str]]
) -> subprocess.CompletedProcess[str]:
    _start_server()
    words = [str(EXAMPLES / script), *map(str, arguments)]
    with tempfile.TemporaryDirectory() as directory:
        outputs = [Path(directory, name) for name in ("stdout", "stderr")]
        processes = []
        for changes in environments:
            variables = {**os.environ, "OMP_NUM_THREADS": "1", "MPLCONFIGDIR": str(cwd), **changes}
            processes.append(FORKS.Process(target=_run_forked, args=(words, str(cwd), variables, outputs)))
            processes[-1].start()
        try:
            for process in processes:
                process.join(300)
                if process.exitcode is None:
                    raise subprocess.TimeoutExpired(words, 300)
        finally:
            for process in processes:
                process.kill()
        codes = [process.exitcode for process in processes]
        texts = [path.read_text() if path.exists() else "" for path in outputs]
    return subprocess.CompletedProcess(words, next((code for code in codes if code), 0), *texts)


def _start_server() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")  # read when the server imports torch
        forkserver.ensure_running()


def _run_forked(words: list[str], cwd: str, environment: dict[str, str], outputs: list[Path]) -> None:
    multiprocessing.set_start_method(None, force=True)  # the default of the system, not the server's
    os.setpgid(0, 0)
    for number, path in enumerate(outputs, start=1):
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(file, number)
        os.close(file)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    own = [str(EXAMPLES), str(Path(__file__).parent)]  # where only tests look
    sys.path[:] = [str(Path(words[0]).parent), *(path for path in sys.path if path not in own)]
    sys.argv = words
    try:
        runpy.run_path(words[0], run_name="__main__")
    finally:
        atexit._run_exitfuncs()


def run_here(script: str, *arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Runs a script of examples/ in this process. One of its own takes seconds to start."""
    words, stopped = [str(EXAMPLES / script), *map(str, arguments)], None
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stdout(io.StringIO()) as stdout,
        contextlib.redirect_stderr(io.StringIO()) as stderr,
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("default")  # no errors, as for users
        patch.chdir(cwd)
        patch.setattr(sys, "argv", words)
        patch.setenv("MALLOC_PERTURB_", "0")  # what is set for freed memory would outlast the script
        try:
            runpy.run_path(words[0], run_name="__main__")
        except SystemExit as end:
            stopped = end.code
    said = f"{stopped}\n" if isinstance(stopped, str) else ""
    code = 1 if said else stopped or 0
    return subprocess.CompletedProcess(words, code, stdout.getvalue(), stderr.getvalue() + said)


class Forked:
    """In the place of a `subprocess.Popen` of a Python script, whose imports take seconds."""

    def __init__(self, command: list[str], env: dict[str, str], stdout: IO[str], **_: object) -> None:
        _start_server()
        outputs = [Path(stdout.name).absolute()] * 2
        self.process = FORKS.Process(target=_run_forked, args=(command[1:], str(Path.cwd()), env, outputs))
        self.process.start()

    def wait(self) -> int:
        self.process.join(300)
        code = self.process.exitcode
        assert code is not None, "takes longer than 300 s"
        return code


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
