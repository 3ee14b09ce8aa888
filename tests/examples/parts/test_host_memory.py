"""Freed memory is kept only where this is asked for. The tests count page faults, not time."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[3] / "examples"
# A tensor of 64 MB, more than glibc ever keeps by itself, made forty times over: how many pages came anew?
SETTINGS = """
import sys
from parts.host_memory import keep_freed_memory, return_freed_memory
settings = {"keep": keep_freed_memory, "return": return_freed_memory, "leave": lambda: None}
"""
# Each setting in a fork of one process that has imported torch.
START = (
    SETTINGS
    + """
import os, resource
import torch
for word in sys.argv[1:]:
    if os.fork() == 0:
        break
    os.wait()
else:
    sys.exit()
kept = settings[word]()
"""
)
FAULTS = (
    START
    + """
torch.ones(16_000_000)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(40):
    torch.ones(16_000_000)
print(kept, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
)


# Two hundred tensors of 4 MB, then half of them gone: how many MB of those did the system get back?
RETURNED = (
    START
    + """
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()
tensors = [torch.ones(7_000_000), torch.ones(7_000_000)]
tensors.clear()  # from now on, the C library takes such sizes from its heap, if left alone
tensors = [torch.ones(1_000_000) for _ in range(200)]
before = resident()
tensors = tensors[::2]
print(kept, (before - resident()) // 1_000_000)
"""
)


def run(script: str, *words: str, **variables: str) -> list[list[str]]:
    """The line that a script prints for each setting, in words."""
    inherited = {name: value for name, value in os.environ.items() if "MALLOC" not in name.upper()}
    inherited.pop("GLIBC_TUNABLES", None)
    environment = {**inherited, "PYTHONPATH": str(EXAMPLES), **variables}
    command = [sys.executable, "-c", script, *words]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return [line.split() for line in done.stdout.splitlines()]


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the allocator of another C library")
def test_freed_memory_is_used_again() -> None:
    if os.sysconf("SC_PAGE_SIZE") != 4096:
        pytest.skip("counts pages of 4 KB")
    (kept, faults), (left, without) = run(FAULTS, "keep", "leave")
    assert (kept, left) == ("True", "None")
    if int(without) < 39 * 64_000_000 / 4096:
        pytest.skip("this system gives pages many at a time: nothing to save")
    # Small objects in between make the heap grow until all tensors have a place.
    assert int(faults) < int(without) / 2


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the allocator of another C library")
def test_freed_memory_goes_back_at_once() -> None:
    if not Path("/proc/self/statm").exists():
        pytest.skip("only Linux tells the memory of a process")
    (asked, returned), (_, left), (_, kept) = run(RETURNED, "return", "leave", "keep")
    assert asked == "True"
    assert int(returned) > 350  # of 400
    assert int(left) < 50
    assert int(kept) < 50


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the allocator of another C library")
@pytest.mark.parametrize(
    "variables",
    [
        {"MALLOC_PERTURB_": "0"},
        {"GLIBC_TUNABLES": "glibc.malloc.trim_threshold=131072"},
    ],
)
def test_what_is_set_outside_stays(variables: dict[str, str]) -> None:
    script = SETTINGS + "print(*(settings[word]() for word in sys.argv[1:]))"
    assert run(script, "keep", "return", **variables) == [["False", "False"]]


def test_other_c_libraries_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    from parts import host_memory

    monkeypatch.setattr(host_memory.platform, "libc_ver", lambda: ("", ""))
    monkeypatch.setattr(host_memory.ctypes, "CDLL", None)  # must not be called
    assert not host_memory.keep_freed_memory()
    assert not host_memory.return_freed_memory()
