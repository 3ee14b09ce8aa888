"""The last line of a run that fails."""

import pytest
import torch
from parts.training.error_message import error_message
from processes import EXAMPLES, run_python


def test_too_little_memory_is_said_with_the_options_that_need_less() -> None:
    with pytest.raises(RuntimeError) as raised:
        torch.empty(2**50)  # PyTorch's own message
    for error in (raised.value, MemoryError(), torch.OutOfMemoryError("CUDA out of memory. Tried to ...")):
        words = error_message(error)
        assert words is not None
        assert words.startswith("out of memory: ")
        assert "\n" not in words
        for option in ("--batch-size", "--accumulate", "--recompute-head", "--recompute-backbone", "--sizes"):
            assert option in words


def test_a_fault_of_the_program_keeps_its_traceback() -> None:
    for error in (RuntimeError("size mismatch"), KeyError("model"), AssertionError()):
        assert error_message(error) is None


def test_a_message_is_whole_and_on_one_line() -> None:
    assert error_message(ValueError("a\nb.jpg: cannot be read")) == "a\\nb.jpg: cannot be read"
    worker = "Caught ValueError in DataLoader worker process 0.\nOriginal Traceback (most recent call last):"
    error = ValueError(f'{worker}\n  File "x.py", line 1\nValueError: a\nb.jpg: broken')
    assert error_message(error) == "a\\nb.jpg: broken"


WINDOWS = """
import pathlib, sys, types
held = set()
def locking(descriptor, mode, size):
    if held:
        raise PermissionError(13, "Permission denied")
    held.add(descriptor)
sys.path.insert(0, sys.argv[1])
import torch
sys.modules.update(fcntl=None, resource=None)
import train
sys.modules["msvcrt"] = types.SimpleNamespace(locking=locking, LK_NBLCK=2)
from parts.training.run_lock import lock
from parts.training.memory import most_memory
print(most_memory(torch.device("cpu")))
with lock(pathlib.Path(".")):
    try:
        with lock(pathlib.Path(".")):
            print("entered twice")
    except ValueError as error:
        print(error)
"""


@pytest.mark.slow
def test_the_modules_that_windows_lacks_are_done_without(tmp_path) -> None:
    said = run_python(WINDOWS, EXAMPLES, cwd=tmp_path).splitlines()
    assert said == ["nan", ".: another process is training in it"]
