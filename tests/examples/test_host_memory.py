"""Memory is kept where that is asked for, and only there; counted in page faults, not in time."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
# A tensor of 64 MB, more than glibc ever keeps by itself, made forty times over: how many pages came anew?
SCRIPT = """
import resource, sys
import torch
from host_memory import keep_freed_memory
kept = keep_freed_memory() if sys.argv[1] == "keep" else None
torch.ones(16_000_000)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(40):
    torch.ones(16_000_000)
print(kept, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def run(word: str, **variables: str) -> tuple[str, int]:
    inherited = {name: value for name, value in os.environ.items() if "MALLOC" not in name.upper()}
    inherited.pop("GLIBC_TUNABLES", None)
    environment = {**inherited, "PYTHONPATH": str(EXAMPLES), **variables}
    command = [sys.executable, "-c", SCRIPT, word]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    kept, faults = done.stdout.split()
    return kept, int(faults)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the allocator of another C library")
def test_freed_memory_is_used_again() -> None:
    if os.sysconf("SC_PAGE_SIZE") != 4096:
        pytest.skip("counts pages of 4 KB")
    kept, faults = run("keep")
    assert kept == "True"
    kept, without = run("leave")
    assert kept == "None"
    if without < 39 * 64_000_000 / 4096:
        pytest.skip("this system gives pages many at a time: nothing to save")
    assert faults < without / 2  # small things in between make the heap grow until there is a place for all


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the allocator of another C library")
@pytest.mark.parametrize(
    "variables",
    [
        {"MALLOC_PERTURB_": "0"},
        {"GLIBC_TUNABLES": "glibc.malloc.trim_threshold=131072"},
    ],
)
def test_what_is_set_outside_stays(variables: dict[str, str]) -> None:
    assert run("keep", **variables)[0] == "False"


def test_other_c_libraries_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    import host_memory

    monkeypatch.setattr(host_memory.platform, "libc_ver", lambda: ("", ""))
    monkeypatch.setattr(host_memory.ctypes, "CDLL", None)  # must not be called
    assert not host_memory.keep_freed_memory()
