"""The device of these tests: a GPU where there is one, else the CPU and tiny sizes.

``SPARSE_RCNN_TEST_DEVICE=cpu`` or ``=cuda`` chooses. ``examples/gpu_check.py`` runs them all, with what they
measured (``record_property``) in its report.
"""

import os
from pathlib import Path

import pytest
import torch

# Read when cuBLAS is first used: without it, its products are not the same in each run.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
DEVICE = os.environ.get("SPARSE_RCNN_TEST_DEVICE") or ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    for item in items:
        if Path(__file__).parent in item.path.parents:
            # Warnings of a GPU (compiler, streams) differ from card to card, so they are no errors.
            # On a CPU, these tests repeat others in small.
            mark = pytest.mark.filterwarnings("default") if DEVICE == "cuda" else pytest.mark.slow
            item.add_marker(mark)


@pytest.fixture(scope="session")
def device() -> torch.device:
    if DEVICE == "cuda" and not torch.cuda.is_available():
        raise ValueError("SPARSE_RCNN_TEST_DEVICE is cuda, but PyTorch finds no GPU that it can use")
    return torch.device(DEVICE)


@pytest.fixture
def gpu(device) -> torch.device:
    """For what only a GPU can show."""
    if device.type != "cuda":
        pytest.skip("needs a GPU")
    return device


@pytest.fixture(autouse=True)
def _full_float32(monkeypatch):
    """Not TensorFloat-32, which convolutions take by default."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    torch.set_float32_matmul_precision("highest")
    yield
    torch.set_float32_matmul_precision("highest")


@pytest.fixture
def _forget_graphs():
    torch.compiler.reset()
    yield
    torch.compiler.reset()
