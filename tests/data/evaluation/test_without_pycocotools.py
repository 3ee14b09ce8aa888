"""Without pycocotools, only the evaluation does not work. It says what it needs."""

import json

import pytest
from processes import EXAMPLES, TINY, run_python

SCRIPTS = ("train", "detect", "export", "evaluate", "benchmark", "experiments", "visualize_stages")
# As where it is not installed: no import finds it.
WITHOUT = "import runpy, sys; sys.modules['pycocotools'] = None; sys.path[:0] = [sys.argv[1]]; "


@pytest.mark.slow
def test_all_scripts_are_imported_and_training_says_that_there_are_no_figures(tmp_path):
    code = WITHOUT + (
        "import sparse_rcnn.data\n"
        f"for name in {SCRIPTS}: runpy.run_path(f'{{sys.argv[1]}}/{{name}}.py')\n"
        "try: sparse_rcnn.data.evaluate_coco({'images': [], 'annotations': [], 'categories': []}, [])\n"
        "except ImportError as error: print('evaluate_coco:', error)\n"
        "del sys.argv[1]; runpy.run_path(f'{sys.path[0]}/train.py', run_name='__main__')\n"
        "assert sys.modules['pycocotools'] is None\n"
    )
    said = run_python(code, EXAMPLES, *TINY, "--iterations", "1", cwd=tmp_path)
    asked, told = (line for line in said.splitlines() if "pip install pycocotools" in line)
    assert asked.startswith("evaluate_coco: ")
    assert told.startswith("pycocotools is not installed: no figures")
    summary = json.loads((tmp_path / "runs" / "shapes" / "summary.json").read_text())
    assert summary["AP"] is None
    assert summary["iterations"] == 1
