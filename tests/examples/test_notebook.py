"""The code of the notebook runs from top to bottom and makes pictures. It has the text of its page."""

import json
import re
import shutil

import pytest
from processes import EXAMPLES

NOTEBOOK = json.loads((EXAMPLES / "detector.ipynb").read_text(encoding="utf-8"))
PAGE = EXAMPLES.parent / "docs" / "tutorials" / "detector.md"


def test_notebook_is_its_page():
    """But for the cell that gets a photo, the line that shows a picture, and where links lead."""
    cells = ["".join(cell["source"]) for cell in NOTEBOOK["cells"] if cell["id"] != "photo"]
    parts = re.split(
        r"^```python\n(.*?)^```\n", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE
    )

    def plain(text: str) -> str:
        return re.sub(r"\]\([^)]*\)", "]", text.removesuffix("\nfound").strip())

    assert [plain(cell) for cell in cells] == [plain(part) for part in parts if part.strip()]


@pytest.mark.slow
def test_notebook_runs(tmp_path, monkeypatch):
    shutil.copy(EXAMPLES.parent / "docs" / "predictions.jpg", tmp_path / "photo.jpg")
    monkeypatch.chdir(tmp_path)
    cells = ["".join(cell["source"]) for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"]
    assert len(cells) > 5
    names = {"__name__": "__main__"}
    for number, cell in enumerate(cells):
        exec(compile(cell, f"cell {number}", "exec"), names)
    assert names["found"]._repr_png_().startswith(b"\x89PNG")
    assert not any(cell.get("outputs") for cell in NOTEBOOK["cells"])  # no pictures in it
