"""What the README says runs."""

import re
from pathlib import Path

import pytest

README = (Path(__file__).resolve().parents[1] / "README.md").read_text()
PYTHON_BLOCKS = re.findall(r"^```python\n(.*?)^```$", README, flags=re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("block", range(len(PYTHON_BLOCKS)))
def test_python_blocks_run(block: int, capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(PYTHON_BLOCKS[block], f"README.md block {block}", "exec"), {})
    assert capsys.readouterr().out  # each ends by printing what it made


def test_there_are_blocks_to_run() -> None:
    assert len(PYTHON_BLOCKS) >= 3


def test_files_that_it_links_to_exist() -> None:
    links = re.findall(r"\]\((?!http)([^)#]+)\)", README)
    assert links
    for link in links:
        assert (Path(__file__).resolve().parents[1] / link).exists(), link
