"""The parts of gpu_check.py: first the tests, then the tables. In both, the most important come first."""

import sys
from pathlib import Path

from parts.gpu_check.parts import ROOT, Part

TESTS = (
    *("figures", "compiled", "host_waits", "public_ops", "repeatability"),
    *("mixed_precision", "distributed", "files"),
)
# Sections of benchmark.py --gpu that share a process, and their time limit in seconds.
MEASURED = {
    "inference": (("gpu-products", "gpu-inference"), 110),
    "training": (("gpu-training",), 110),
    "roi": (("gpu-roi",), 80),
    "compiled inference": (("gpu-compiled",), 100),
    "compiled training": (("gpu-compiled-training",), 120),
    "peers": (("gpu-peers",), 80),
    "head and matching": (("gpu-head", "gpu-matching"), 60),
    "train script": (("gpu-train-script",), 150),
}
# These are compiled beside the tests. The compiler keeps the result for the measurement.
BEFOREHAND = {"compiled training": 260, "compiled inference": 200}
# These tests compile, and need longer than the others.
COMPILING, COMPILING_LIMIT = ("compiled", "files"), 280


def make_plan(device: str, tiny: bool, repeats: int, directory: Path) -> list[Part]:
    """All parts. Tables go to folders with their names, results of tests to files with their names."""

    def measure(name: str, repeats: int, output: str) -> list[str]:
        command = [sys.executable, str(ROOT / "examples" / "benchmark.py"), "--gpu", "--device", device]
        repeats = min(repeats, 2) if tiny else repeats  # tiny tables only show that they run
        command += ["--repeats", str(repeats), "--output", str(directory / output)]
        return [*command, *(["--tiny"] if tiny else []), "--only", *MEASURED[name][0]]

    parts = []
    if not tiny:
        for name, limit in BEFOREHAND.items():
            command = measure(name, 1, f"beforehand {name}")
            parts.append(Part(f"beforehand {name}", command, limit, together=True, counts=False))
    for name in TESTS:
        # In one process, also where pytest-xdist is not installed, which pyproject.toml has options of.
        options = "addopts=--import-mode=importlib -ra --strict-markers -m 'not release'"
        command = [sys.executable, "-m", "pytest", "-o", options, "-v", "-p", "no:cacheprovider"]
        # Reports of this family have a place for values that a test measured.
        command += ["-W", "default"] if device == "cuda" else []  # also for modules that are imported there
        command += ["-o", "junit_family=xunit1", f"--junitxml={directory / name}.xml"]
        command.append(f"tests/gpu/test_{name}.py")
        limit = COMPILING_LIMIT if name in COMPILING else 200
        parts.append(Part(f"tests {name}", command, limit, together=True))
    for name, (_, limit) in MEASURED.items():
        # Tiny tables run beside each other, maybe on two cores: only a part that hangs is ended.
        limit = 300 if tiny else limit
        parts.append(Part(name, measure(name, repeats, name), limit, together=tiny))
    return parts
