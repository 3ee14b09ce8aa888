"""Without pycocotools everything runs but the evaluation, which says what it needs."""

import json

import pytest
from processes import EXAMPLES, TINY, run_python

SCRIPTS = ("train", "detect", "export", "evaluate", "benchmark", "experiments", "visualize_stages")
# As where it is not installed: no import finds it.
WITHOUT = "import runpy, sys; sys.modules['pycocotools'] = None; sys.path[:0] = [sys.argv[1]]; "


@pytest.mark.slow
def test_the_library_and_the_scripts_import_and_evaluate_coco_says_what_it_needs(tmp_path):
    code = WITHOUT + (
        "import sparse_rcnn.data\n"
        "for name in sys.argv[2:]: runpy.run_path(f'{sys.argv[1]}/{name}.py')\n"
        "try: sparse_rcnn.data.evaluate_coco({'images': [], 'annotations': [], 'categories': []}, [])\n"
        "except ImportError as error: print(error)\n"
        "assert sys.modules['pycocotools'] is None\n"
    )
    said = run_python(code, EXAMPLES, *SCRIPTS, cwd=tmp_path)
    assert "pip install pycocotools" in said


@pytest.mark.slow
def test_training_runs_and_says_that_there_are_no_figures(tmp_path):
    code = WITHOUT + "del sys.argv[1]; runpy.run_path(f'{sys.path[0]}/train.py', run_name='__main__')"
    said = run_python(code, EXAMPLES, *TINY, "--iterations", "1", cwd=tmp_path)
    assert "pip install pycocotools" in said
    summary = json.loads((tmp_path / "runs" / "shapes" / "summary.json").read_text())
    assert summary["AP"] is None
    assert summary["iterations"] == 1
