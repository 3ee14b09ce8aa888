"""The comparison of methods on small data: its cases, its table, and what it refuses."""

import json
import shlex
import sys
from pathlib import Path

import pytest
from processes import run_here
from small_data import Case, command_of, parse_arguments

# A peer that is better with a larger seed.
PEER = """
seed = int({seed})
print("noise")
print("0.2 CPU minutes, step 10: AP 0.100, AP50 0.200")
print(f"{minutes} CPU minutes, step 20: AP 0.{{3 + seed}}00, AP50 0.{{5 + seed}}00")
"""


def peer(text: str) -> str:
    return f"{shlex.quote(sys.executable)} -c {shlex.quote(text)}"


def test_the_table_has_means_over_the_seeds(tmp_path: Path) -> None:
    words = ("--data", "cells", "--minutes", "0.5", "--seeds", "0", "1", "2", "--methods", "peer")
    done = run_here("small_data.py", *words, "--peer", peer(PEER), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    output = tmp_path / "runs" / "small_data"
    row = "| cells | peer | 0.5 | 3 | 0.400 ± 0.100 | 0.600 ± 0.100 |"
    assert (output / "table.md").read_text().splitlines()[2:] == [row]
    results = json.loads((output / "results.json").read_text())
    assert [result["curve"][-1] for result in results] == [[0.5, 0.3, 0.5], [0.5, 0.4, 0.6], [0.5, 0.5, 0.7]]
    assert len([*output.glob("cells-peer-0.5min-seed*.log")]) == 3  # each its own
    assert (output / "minutes.png").stat().st_size > 10_000
    # What is there already is not run again.
    again = run_here("small_data.py", *words, "--peer", peer("raise SystemExit(1)"), cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert "training" not in again.stdout
    assert row in again.stdout


def test_a_peer_that_fails_or_says_nothing_ends_it(tmp_path: Path) -> None:
    words = ("--data", "cells", "--minutes", "1", "--methods", "peer")
    done = run_here("small_data.py", *words, "--peer", peer("raise SystemExit('no memory')"), cwd=tmp_path)
    assert done.returncode == 1
    assert "cells-peer-1min-seed0 ended with 1: no memory; see " in done.stderr
    done = run_here("small_data.py", *words, "--peer", peer("print('done')"), cwd=tmp_path)
    assert done.returncode == 1
    assert "has no line such as" in done.stderr


def test_a_variant_is_dense_with_other_options(monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["small_data.py", "--data", "cells", "--backbone", "resnet18", "--methods", "dense", "learned"]
    monkeypatch.setattr(sys, "argv", [*words, "--variant", "two=--num-stages 2 --ema 0"])
    options = parse_arguments()
    dense, learned, two = (command_of(Case("cells", m, 5.0, 1), options) for m in ("dense", "learned", "two"))
    end = dense.index("--device")
    assert dense[2:10] == ["--backbone", "resnet18", "--data", "cells", "--minutes", "5.0", "--clock", "cpu"]
    assert learned[:end] == two[:end] == dense[:end]
    assert learned[end:-4] == ["--proposals", "learned"]
    assert two[end:-4] == ["--num-stages", "2", "--ema", "0"]
    assert two[-1].endswith("cells-two-5min-seed1")


@pytest.mark.parametrize(
    "variant", ["two", "two=", "=--num-stages 2", "two stages=--num-stages 2", "dense=--ema 0"]
)
def test_a_variant_without_name_or_options_is_refused(
    variant: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["small_data.py", "--data", "cells", "--variant", variant])
    with pytest.raises(SystemExit):
        parse_arguments()
    assert "--variant" in capsys.readouterr().err
