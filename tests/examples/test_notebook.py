"""The code of the notebook runs from top to bottom and makes pictures."""

import json
import shutil

import pytest
from processes import EXAMPLES


@pytest.mark.slow
def test_notebook_runs(tmp_path, monkeypatch):
    notebook = json.loads((EXAMPLES / "detector.ipynb").read_text())
    shutil.copy(EXAMPLES.parent / "docs" / "predictions.jpg", tmp_path / "photo.jpg")
    monkeypatch.chdir(tmp_path)
    cells = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert len(cells) > 5
    names = {"__name__": "__main__"}
    for number, cell in enumerate(cells):
        exec(compile(cell, f"cell {number}", "exec"), names)
    assert names["found"]._repr_png_().startswith(b"\x89PNG")
    assert not any(cell.get("outputs") for cell in notebook["cells"])  # no pictures in it
