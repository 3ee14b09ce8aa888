"""Exported detectors: one file each, run by a fresh process that knows nothing of this package."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from processes import run_python, run_script
from small_model import random_batch

from sparse_rcnn.nn import EndToEndDetector, build_from_checkpoint, read_checkpoint

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "one_graph.md").read_text()
FORMATS = [
    "torchscript",
    "pt2",
    "onnx",
    pytest.param(
        "aoti",
        marks=[
            pytest.mark.slow,
            pytest.mark.skipif(shutil.which("g++") is None, reason="AOTInductor needs a C++ compiler"),
        ],
    ),
]
SUFFIXES = {"torchscript": ".torchscript.pt", "pt2": ".pt2", "onnx": ".onnx", "aoti": ".aoti.pt2"}
# None of these was traced: (batch, height, width). Rows and columns need not be multiples of anything.
SIZES = [(1, 64, 64), (3, 96, 160), (2, 75, 133), (1, 33, 200)]

# What a user would write to serve a file, and how each says its class names.
RUN = {
    "torchscript": """
        import torch
        extra = {"sparse_rcnn.json": ""}
        module = torch.jit.load(path, _extra_files=extra)
        metadata = json.loads(extra["sparse_rcnn.json"])
        def run(images, sizes):
            with torch.inference_mode():
                return module(torch.from_numpy(images), torch.from_numpy(sizes))
    """,
    "pt2": """
        import torch
        extra = {"sparse_rcnn.json": ""}
        module = torch.export.load(path, extra_files=extra).module()
        metadata = json.loads(extra["sparse_rcnn.json"])
        def run(images, sizes):
            with torch.inference_mode():
                return module(torch.from_numpy(images), torch.from_numpy(sizes))
    """,
    "aoti": """
        import torch
        package = torch._inductor.aoti_load_package(path)
        metadata = json.loads(package.loader.get_metadata()["sparse_rcnn.json"])
        def run(images, sizes):
            return package(torch.from_numpy(images), torch.from_numpy(sizes))
    """,
    "onnx": """
        import onnxruntime
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        properties = session.get_modelmeta().custom_metadata_map
        metadata = {key: json.loads(value) for key, value in properties.items()}
        def run(images, sizes):
            return session.run(["boxes", "scores", "labels"], {"images": images, "image_sizes": sizes})
    """,
}
PROCESS = """
import json, sys
import numpy as np
path, figures, results, forbidden = sys.argv[1:]
{run}
inputs = np.load(figures)
outputs = {{}}
for index in range(len(inputs) // 2):
    found = run(inputs[f"images{{index}}"], inputs[f"sizes{{index}}"])
    for name, value in zip(("boxes", "scores", "labels"), found):
        outputs[f"{{name}}{{index}}"] = np.asarray(value)
np.savez(results, **outputs)
loaded = [name for name in forbidden.split(",") if name in sys.modules]
print(json.dumps({{"metadata": metadata, "loaded": loaded}}))
"""


@pytest.fixture(scope="module", params=FORMATS)
def exported(request: pytest.FixtureRequest, trained: Path) -> tuple[str, Path]:
    """A format, and the file that export.py made in it."""
    checkpoint = trained / "runs" / "shapes" / "checkpoint.pth"
    done = run_script("export.py", checkpoint, "--format", request.param, "--repeats", "1", cwd=trained)
    assert done.returncode == 0, done.stderr
    assert "largest difference of scores" in done.stdout
    assert re.search(r"\d MB, written in \d+ s", done.stdout)
    assert "times as fast" in done.stdout
    return request.param, checkpoint.with_name("checkpoint" + SUFFIXES[request.param])


@pytest.fixture(scope="module")
def eager(trained: Path) -> EndToEndDetector:
    checkpoint = read_checkpoint(trained / "runs" / "shapes" / "checkpoint.pth")
    return EndToEndDetector(build_from_checkpoint(checkpoint).eval())


def assert_documented_code_runs(path: Path, image: Path, cwd: Path) -> None:
    """The page's few lines, where only NumPy, PIL and ONNX Runtime are imported."""
    block = re.search(r"^```python\n(.*?)^```$", PAGE, flags=re.DOTALL | re.MULTILINE)
    assert block is not None
    shutil.copy(path, cwd / "checkpoint.onnx")
    shutil.copy(image, cwd / "photo.jpg")
    code = block[1].replace("s > 0.3", "s > 0") + "import sys; assert 'torch' not in sys.modules"
    assert "circle" in run_python(code, cwd=cwd)


def assert_standard_onnx(path: Path) -> None:
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    assert {node.domain for node in model.graph.node} == {""}
    assert [entry.domain for entry in model.opset_import] == [""]
    assert not model.functions
    used = {node.op_type for node in model.graph.node}
    assert not used & {"Loop", "Scan", "If", "NonMaxSuppression"}
    documented = re.search(r"Operators in the ONNX file: (.*?)\.\n", PAGE, flags=re.DOTALL)
    assert documented is not None
    assert used <= set(re.findall(r"\w+", documented[1])), used - set(re.findall(r"\w+", documented[1]))


def test_a_fresh_process_gives_the_checkpoints_detections(
    exported: tuple[str, Path], eager: EndToEndDetector, tmp_path: Path
) -> None:
    kind, path = exported
    if kind == "onnx":
        assert_standard_onnx(path)
        image = sorted((path.parents[2] / "data" / "shapes" / "val2017").glob("*.jpg"))[0]
        assert_documented_code_runs(path, image, tmp_path)
    batches = [random_batch(*size) for size in SIZES]
    figures = {}
    for index, (images, sizes) in enumerate(batches):
        figures.update({f"images{index}": images.numpy(), f"sizes{index}": sizes.numpy()})
    np.savez(tmp_path / "figures.npz", **figures)
    body = "\n".join(line[8:] for line in RUN[kind].splitlines())
    forbidden = "sparse_rcnn,torchvision" + (",torch" if kind == "onnx" else "")
    output = run_python(PROCESS.format(run=body), path, "figures.npz", "results.npz", forbidden, cwd=tmp_path)
    said = json.loads(output.splitlines()[-1])
    assert said["loaded"] == []
    assert said["metadata"] == {
        "class_names": ["circle", "square", "triangle", "star", "ring", "cross"],
        "shortest_side": 128,
        "longest_side": 128,
        "max_detections": 100,
    }
    results = np.load(tmp_path / "results.npz")
    for index, batch in enumerate(batches):
        with torch.no_grad():
            boxes, scores, labels = eager(*batch)
        np.testing.assert_allclose(results[f"scores{index}"], scores, rtol=0, atol=1e-4)
        # Equal scores to the last bit may trade places; at most a pair did in any image here.
        same = (results[f"labels{index}"] == labels.numpy()) & (
            np.abs(results[f"boxes{index}"] - boxes.numpy()).max(axis=-1) < 1e-2
        )
        assert same.mean() >= 0.9
        assert results[f"labels{index}"].dtype == np.int64


def test_detect_and_evaluate_take_the_file_like_its_checkpoint(
    exported: tuple[str, Path], trained: Path, tmp_path: Path
) -> None:
    path = exported[1]
    image = sorted((trained / "data" / "shapes" / "val2017").glob("*.jpg"))[0]
    records = {}
    for file in (path, trained / "runs" / "shapes" / "checkpoint.pth"):
        done = run_script("detect.py", file, image, "--threshold", "0", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        records[file] = json.loads((tmp_path / "detections" / "detections.json").read_text())
    found, expected = (record[str(image)]["detections"] for record in records.values())
    assert len(found) == len(expected) > 0
    for mine, theirs in zip(found, expected, strict=True):
        assert mine["score"] == pytest.approx(theirs["score"], abs=2e-4)
    done = run_script(
        *("evaluate.py", path, "--data", trained / "data" / "shapes", "--workers", "0"),
        *("--batch-size", "3", "--metrics", "metrics.json"),
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    last = json.loads((trained / "runs" / "shapes" / "metrics.jsonl").read_text().splitlines()[-1])
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["AP"] == pytest.approx(last["AP"], abs=1e-3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nothing.pth", "--format", "pt2"), "nothing.pth: no such file"),
        (("runs/shapes/checkpoint.pth", "--format", "onnx", "--output", "x.pt"), "ends in .onnx"),
        (("runs/shapes/checkpoint.pth", "--format", "pt2", "--image", "garbage.jpg"), "garbage.jpg"),
        (("runs/shapes/checkpoint.pth", "--format", "pt2", "--max-detections", "0"), "max_detections"),
    ],
)
def test_bad_input_ends_with_one_line_that_names_it(
    trained: Path, arguments: tuple[str, ...], message: str
) -> None:
    (trained / "garbage.jpg").write_bytes(b"not an image")
    done = run_script("export.py", *arguments, cwd=trained)
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("name", ["damaged.onnx", "foreign.pt"])
def test_files_that_are_not_of_export_are_refused(trained: Path, name: str) -> None:
    (trained / "damaged.onnx").write_bytes(b"not a model")
    torch.jit.save(torch.jit.script(torch.nn.Identity()), trained / "foreign.pt")
    image = sorted((trained / "data" / "shapes" / "val2017").glob("*.jpg"))[0]
    done = run_script("detect.py", name, image, cwd=trained)
    assert done.returncode == 1
    assert name in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
