"""Fixtures of all tests."""

import os
from pathlib import Path

# torch reads these when it is imported. Several processes of several threads each would wait for each other.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
# The C++ around AOTInductor's kernels is compiled without optimisation, in 15 s of CPU time less.
os.environ.setdefault("AOT_INDUCTOR_COMPILE_WRAPPER_OPT_LEVEL", "O0")
# Inductor compiles in its own process: each helper would import torch again, which takes seconds.
os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")

import shutil
import tempfile

# What is remembered of image files stays out of the user's folder.
CACHE = os.environ["SPARSE_RCNN_CACHE"] = tempfile.mkdtemp(prefix="sparse_rcnn_cache_")

import pytest
import torch.utils.data
from hypothesis import Phase, settings

# Every run on every machine has the same examples. An example has no time limit of its own.
# No explain phase: it takes minutes where every example runs tensor code.
# The end of a DataLoader waits so long for a process that raised an error; by itself it takes 5 s.
torch.utils.data._utils.MP_STATUS_CHECK_INTERVAL = 0.5

settings.register_profile(
    "sparse_rcnn",
    deadline=None,
    derandomize=True,
    max_examples=25,
    phases=[Phase.explicit, Phase.generate, Phase.shrink],
)
settings.register_profile("inner_loop", settings.get_profile("sparse_rcnn"), max_examples=10)


def pytest_configure(config: pytest.Config) -> None:
    """The inner loop tries fewer examples of each property than the whole suite."""
    settings.load_profile("inner_loop" if "not slow" in config.option.markexpr else "sparse_rcnn")


def pytest_unconfigure() -> None:
    shutil.rmtree(CACHE, ignore_errors=True)


# The longest files: they come first, so that no process waits for another at the end.
LONGEST = (
    *("test_survival.py", "test_examples.py", "test_export.py", "test_modes.py", "test_one_graph.py"),
    *("test_small_data.py", "test_gpu_check.py", "test_experiments.py", "test_benchmark.py"),
    *("test_checkpoint_fuzz.py", "test_wheel.py", "test_pages.py"),
)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("release"):
            item.add_marker("slow")  # so that -m "not slow" leaves them out, too
    ranks = {name: rank for rank, name in enumerate(LONGEST)}
    items.sort(key=lambda item: ranks.get(item.path.name, len(LONGEST)))  # stable


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The folder of real data and reference figures beside the checkout, if there is one."""
    default = Path(__file__).resolve().parents[2] / "shared"
    directory = Path(os.environ.get("SPARSE_RCNN_SHARED", default))
    if not directory.is_dir():
        pytest.skip("no shared data beside the checkout or in SPARSE_RCNN_SHARED")
    return directory
