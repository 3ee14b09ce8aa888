"""One run at a time uses a directory."""

from pathlib import Path

import pytest
from parts.training.run_lock import lock
from processes import EXAMPLES, run_python

LOCK = """
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from parts.training.run_lock import lock
try:
    with lock(Path(sys.argv[2])):
        print("in")
except ValueError as error:
    print(error)
"""


@pytest.mark.slow
def test_one_process_at_a_time_is_in_the_directory(tmp_path: Path) -> None:
    def another() -> str:
        return run_python(LOCK, EXAMPLES, tmp_path, cwd=tmp_path).strip()

    with lock(tmp_path):
        assert another() == f"{tmp_path}: another process is training in it"
    assert another() == "in"
