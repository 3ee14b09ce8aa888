"""Exported detectors: one file each. A fresh process without this package runs it."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from PIL import Image
from processes import EXAMPLES, failure_of, run_python, run_script
from small_model import build_published_model, random_batch

from sparse_rcnn import load_detector
from sparse_rcnn.inference.export import ANY_SIDE, SUFFIXES
from sparse_rcnn.inference.export_check import largest_differences
from sparse_rcnn.nn import EndToEndDetector, build_from_checkpoint, read_checkpoint, to_detectron2

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
# With group norm, and of MobileNetV2: in the list, not in this file.
OF_OTHER_BACKBONES = {"InstanceNormalization"}
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
    assert re.search(r"\d MB, written and compared in \d+ s", done.stdout)
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
    shutil.copy(path, cwd / "best.onnx")
    with Image.open(image) as picture:
        picture.resize((128, 128)).save(
            cwd / "photo.jpg"
        )  # PIL resizes in another way than torchvision, so nothing is resized
    code = block[1].replace("s > 0.3", "s > 0.01") + "import sys; assert 'torch' not in sys.modules"
    printed = re.findall(
        r"\('(\w+)', (?:np\.float32\()?([\d.]+)\)?, array\(\[(.*?)\]", run_python(code, cwd=cwd)
    )
    detector = load_detector(str(path), torch.device("cpu"))
    found = detector(cwd / "photo.jpg", 0.01)
    boxes, scores, labels = found.boxes, found.scores, found.labels
    printed_boxes = torch.tensor([[float(x) for x in box.split(",")] for _, _, box in printed])
    kept = (printed_boxes[:, 2:] > printed_boxes[:, :2]).all(dim=1)
    assert [name for keep, (name, _, _) in zip(kept, printed, strict=True) if keep] == [
        detector.class_names[label] for label in labels
    ]
    torch.testing.assert_close(printed_boxes[kept], boxes, rtol=0, atol=1e-2)
    found = torch.tensor([float(score) for _, score, _ in printed])[kept]
    torch.testing.assert_close(found, scores, rtol=0, atol=1e-4)


def assert_cpp_program_agrees(path: Path, eager: EndToEndDetector, cwd: Path) -> None:
    """Built with the command that stands in its first lines."""
    source = EXAMPLES / "detect.cpp"
    head = [line[5:] for line in source.read_text().splitlines() if line.startswith("//   ")]
    build = "\n".join(head[1:-1]).replace("examples/detect.cpp", str(source))
    build = build.replace("python ", f"{sys.executable} ")
    done = subprocess.run(["bash", "-ec", build], cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    images, sizes = random_batch(1, 96, 128)
    pixels = images[0].permute(1, 2, 0).contiguous().numpy().tobytes()
    (cwd / "picture.ppm").write_bytes(b"P6\n128 96\n255\n" + pixels)
    done = subprocess.run(
        [cwd / "detect", path, "picture.ppm", "0.001"], cwd=cwd, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    with torch.no_grad():
        boxes, scores, _ = (part[0] for part in eager(images, sizes))
    expected = scores[(scores >= 0.001) & (boxes[:, 2:] > boxes[:, :2]).all(dim=1)].tolist()
    found = [float(line.split()[3]) for line in done.stdout.splitlines()]
    assert found == pytest.approx(expected, abs=2e-4)
    assert len(found) > 0
    done = subprocess.run([cwd / "detect", "x", "picture.ppm", "0"], cwd=cwd, capture_output=True, text=True)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)


def assert_standard_onnx(path: Path) -> None:
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    assert {node.domain for node in model.graph.node} == {""}
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 20)]
    assert not model.functions
    used = {node.op_type for node in model.graph.node}
    assert not used & {"Loop", "Scan", "If", "NonMaxSuppression"}
    documented = re.search(r"Operators in the ONNX file: (.*?)\.\n", PAGE, flags=re.DOTALL)
    assert documented is not None
    listed = set(re.findall(r"[A-Z]\w+", documented[1]))
    assert used <= listed, used - listed
    assert listed - used <= OF_OTHER_BACKBONES


@pytest.mark.slow
def test_a_fresh_process_gives_the_checkpoints_detections(
    exported: tuple[str, Path], eager: EndToEndDetector, tmp_path: Path
) -> None:
    kind, path = exported
    if kind == "aoti":
        assert_cpp_program_agrees(path, eager, tmp_path)
    if kind == "onnx":
        assert_standard_onnx(path)
        image = sorted((path.parents[2] / "data" / "shapes" / "val2017").glob("*.jpg"))[0]
        assert_documented_code_runs(path, image, tmp_path)
    any_side = ANY_SIDE or kind == "torchscript"  # PyTorch 2.11 exports multiples of 32 only
    batches = [random_batch(*size) for size in SIZES if any_side or size[1] % 32 == size[2] % 32 == 0]
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
        found = [torch.from_numpy(results[f"{name}{index}"]) for name in ("boxes", "scores", "labels")]
        assert [part.dtype for part in found] == [torch.float32, torch.float32, torch.int64]
        score, box, tied = largest_differences((boxes, scores, labels), tuple(found))
        assert score <= 1e-4
        assert box <= 1e-2
        assert tied <= 0.2 * scores.numel()  # of thousands of digits, few are alike


def detections_of(
    file: Path, trained: Path, directory: Path
) -> list[list[tuple[float, object, list[float]]]]:
    """What detect.py and evaluate.py find, as (score, class, box)."""
    image = sorted((trained / "data" / "shapes" / "val2017").glob("*.jpg"))[0]
    Image.new("RGB", (300, 9), "red").save(directory / "strip.png")  # narrower than exported files take
    done = run_script("detect.py", file, image, "strip.png", "--threshold", "0", cwd=directory)
    assert done.returncode == 0, done.stderr
    records = json.loads((directory / "detections" / "detections.json").read_text())
    assert list(records) == [str(image), "strip.png"]
    done = run_script(
        *("evaluate.py", file, "--data", trained / "data" / "shapes", "--workers", "0"),
        *("--batch-size", "3", "--results", "results.json"),
        cwd=directory,
    )
    assert done.returncode == 0, done.stderr
    results = json.loads((directory / "results.json").read_text())
    return [
        [(d["score"], d["class"], d["box_xyxy"]) for d in records[str(image)]["detections"]],
        [(d["score"], (d["image_id"], d["category_id"]), d["bbox"]) for d in results],
    ]


@pytest.fixture(scope="module")
def detections_of_checkpoint(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> list[list]:
    checkpoint = trained / "runs" / "shapes" / "checkpoint.pth"
    return detections_of(checkpoint, trained, tmp_path_factory.mktemp("checkpoint"))


@pytest.mark.slow
def test_detect_and_evaluate_take_the_file_like_its_checkpoint(
    exported: tuple[str, Path], trained: Path, detections_of_checkpoint: list[list], tmp_path: Path
) -> None:
    found = detections_of(exported[1], trained, tmp_path)
    for mine, theirs in zip(found, detections_of_checkpoint, strict=True):
        assert len(mine) == len(theirs) > 0
        # By falling score. Rounding may exchange two of nearly equal score.
        for (score, _, _), (expected, _, _) in zip(mine, theirs, strict=True):
            assert score == pytest.approx(expected, abs=2e-4)
        same = [
            x[1] == y[1] and x[2] == pytest.approx(y[2], abs=0.02) for x, y in zip(mine, theirs, strict=True)
        ]
        assert sum(same) >= 0.8 * len(same)


def test_largest_differences() -> None:
    boxes = torch.tensor([[[0.0, 0, 9, 9], [0, 0, 5, 5], [0, 0, 7, 7]]])
    scores, labels = torch.tensor([[0.9, 0.5, 0.5]]), torch.tensor([[1, 0, 2]])
    expected = (boxes, scores, labels)
    assert largest_differences(expected, expected) == (0.0, 0.0, 2)
    moved = boxes + torch.tensor([0.5, 0, 0, 0])
    assert largest_differences(expected, (moved, scores, labels)) == (0.0, 0.5, 2)
    swapped = (boxes[:, [0, 2, 1]], scores, labels[:, [0, 2, 1]])
    assert largest_differences(expected, swapped) == (0.0, 0.0, 2)
    assert largest_differences(expected, (boxes, scores - 0.125, labels))[0] == 0.125
    with pytest.raises(ValueError, match="labels differ"):
        largest_differences(expected, (boxes, scores, torch.tensor([[0, 0, 2]])))
    with pytest.raises(ValueError, match="2\\) detections instead of"):
        largest_differences(expected, (boxes[:, :2], scores[:, :2], labels[:, :2]))
    for broken in ((boxes * torch.nan, scores, labels), (boxes, scores * torch.nan, labels)):
        with pytest.raises(ValueError, match="not finite"):
            largest_differences(expected, broken)


@pytest.mark.release
@pytest.mark.skipif(shutil.which("g++") is None, reason="says the same without being asked")
def test_aoti_without_a_compiler_says_so(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "/nonexistent")
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(trained / "cache"))
    options = ("runs/shapes/checkpoint.pth", "--format", "aoti", "--output", "never.pt2")
    done = run_script("export.py", *options, cwd=trained, launcher=("-u",))  # which reads CXX when it imports
    assert done.returncode == 1
    assert "needs a C++ compiler" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


@pytest.mark.release
@pytest.mark.parametrize("kind", ["torchscript", "pt2", "onnx", "aoti"])
def test_the_published_model_of_100_proposals(kind: str, tmp_path: Path) -> None:
    """The comparison by export.py, at the published size. docs/one_graph.md has its figures."""
    model = build_published_model("r50_100", num_heads=8)
    torch.save({"model": to_detectron2(model.state_dict())}, tmp_path / "model.pth")
    done = run_script("export.py", "model.pth", "--format", kind, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    print(done.stdout)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nothing.pth", "--format", "pt2"), "nothing.pth: no such file"),
        (("runs/shapes/checkpoint.pth", "--format", "onnx", "--output", "x.pt"), "ends in .onnx"),
        (("copy.pt", "--format", "torchscript", "--output", "copy.pt"), "is a file that is read"),
        (("runs/shapes/checkpoint.pth", "--format", "pt2", "--image", "garbage.jpg"), "garbage.jpg"),
        (("runs/shapes/checkpoint.pth", "--format", "pt2", "--max-detections", "0"), "max_detections"),
    ],
)
def test_bad_input_ends_with_one_line_that_names_it(
    trained: Path, arguments: tuple[str, ...], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(trained)
    (trained / "garbage.jpg").write_bytes(b"not an image")
    shutil.copy(trained / "runs" / "shapes" / "checkpoint.pth", trained / "copy.pt")
    said = failure_of("export.py", *arguments)
    assert len(said.splitlines()) == 1
    assert message in said


@pytest.mark.slow
@pytest.mark.parametrize("name", ["damaged.onnx", "damaged.pt2", "foreign.pt", "foreign.pt2", "foreign.onnx"])
def test_files_that_are_not_of_export_are_refused(
    trained: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(trained)
    (trained / "damaged.onnx").write_bytes(b"not a model")
    (trained / "damaged.pt2").write_bytes(b"not a program")
    torch.jit.save(torch.jit.script(torch.nn.Identity()), trained / "foreign.pt")
    program = torch.export.export(torch.nn.Identity(), (torch.zeros(1),))
    torch.export.save(program, trained / "foreign.pt2")
    value = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1])
    node = onnx.helper.make_node("Relu", ["x"], ["y"])
    graph = onnx.helper.make_graph([node], "g", [value], [onnx.ValueInfoProto(name="y", type=value.type)])
    opset = onnx.helper.make_opsetid("", 20)
    model = onnx.helper.make_model(graph, opset_imports=[opset], ir_version=10)
    onnx.helper.set_model_props(model, {"author": "somebody"})
    onnx.save(model, trained / "foreign.onnx")
    image = sorted((trained / "data" / "shapes" / "val2017").glob("*.jpg"))[0]
    said = failure_of("detect.py", name, str(image))
    assert name in said
    assert len(said.splitlines()) == 1
    assert ("export it with examples/export.py" in said) == name.startswith("foreign")
