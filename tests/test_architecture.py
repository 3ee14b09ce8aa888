"""The architecture: floors, imports between them, public names, docstrings."""

import ast
import functools
import importlib
from pathlib import Path

import pytest

import sparse_rcnn

PACKAGE = Path(sparse_rcnn.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
# What each floor may import of the package, besides itself.
MAY_IMPORT = {
    "ops": set(),
    "loss": {"ops"},
    "nn": {"ops", "loss"},
    "data": {"ops"},
    "inference": {"ops", "nn", "data"},
    "__init__": {"nn", "inference", "version"},
    "version": set(),
}
PUBLIC = {
    "sparse_rcnn": ["SparseRCNN", "build_sparse_rcnn", "load_detector", "__version__"],
    "sparse_rcnn.ops": [
        "apply_deltas",
        "dynamic_interaction",
        "flatten_pyramid",
        "paired_giou",
        "pairwise_giou",
        "pyramid_roi_align",
        "select_detections",
    ],
    "sparse_rcnn.loss": ["sigmoid_focal_loss", "match_proposals", "set_prediction_loss"],
    "sparse_rcnn.nn": ["DynamicInteraction", "ImageListDetector", "from_detectron2", "from_mmdetection"],
    "sparse_rcnn.inference": ["Detected", "Detector", "load_detector"],
    "sparse_rcnn.data": [
        *("CocoDetection", "VocDetection", "ShapesDataset", "collate", "evaluate_coco", "load_dataset"),
    ],
}


def name_of(path):
    return path.relative_to(PACKAGE).as_posix()


def floor_of(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def room_of(parts):
    """`nn/backbones` for a file in that folder, `nn/stage` for a file beside the folders."""
    return "/".join(part.removesuffix(".py") for part in parts[:2])


@functools.cache
def tree_of(path):
    return ast.parse(path.read_text())


@functools.cache
def imported_modules(path):
    """Absolute names of everything that a file imports, wherever in the file."""
    return tuple(_imported_modules(path))


def _imported_modules(path):
    package = ["sparse_rcnn", *path.relative_to(PACKAGE).parts[:-1]]
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


def is_within(module, package):
    return module == package or module.startswith(f"{package}.")


def importers_of(package):
    return {name_of(path) for path in FILES if any(is_within(m, package) for m in imported_modules(path))}


def public_definitions(tree):
    """Public functions and classes of a module, and the public methods of those classes."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    for node in tree.body:
        if isinstance(node, kinds) and not node.name.startswith("_"):
            yield node.name, node
            if isinstance(node, ast.ClassDef):
                for method in node.body:
                    # The docstring of the class often describes `forward`.
                    if (
                        isinstance(method, kinds)
                        and not method.name.startswith("_")
                        and method.name != "forward"
                    ):
                        yield f"{node.name}.{method.name}", method


def test_the_house_has_these_floors():
    assert {floor_of(path) for path in FILES} == set(MAY_IMPORT)


def test_imports_run_downwards():
    for path in FILES:
        floor = floor_of(path)
        allowed = MAY_IMPORT[floor] | ({floor} if floor != "__init__" else set())
        for module in imported_modules(path):
            parts = module.split(".")
            if parts[0] == "sparse_rcnn" and len(parts) > 1:
                assert parts[1] in allowed, f"{name_of(path)} imports {module}"


def test_rooms_import_one_way():
    """No room (a folder, or a file beside folders) imports a room that imports it, directly or not."""
    imports: dict[str, set[str]] = {}
    for path in FILES:
        if path.name != "__init__.py":
            for module in imported_modules(path):
                source, target = room_of(path.relative_to(PACKAGE).parts), room_of(module.split(".")[1:])
                if module.startswith("sparse_rcnn.") and target != source:
                    imports.setdefault(source, set()).add(target)
    for start in imports:
        reached, front = set(), {start}
        while front:
            front = {target for room in front for target in imports.get(room, set())} - reached
            reached |= front
        assert start not in reached, f"{start} imports a room that imports it"


def test_each_file_has_a_name_of_its_own():
    names = [path.name for path in FILES if path.name != "__init__.py"]
    assert {name for name in names if names.count(name) > 1} == set()


def test_scipy_in_the_assignment_alone():
    assert importers_of("scipy") == {"ops/assignment.py"}


@pytest.mark.parametrize("evaluator", ["pycocotools", "faster_coco_eval"])
def test_evaluators_in_the_evaluation_alone_and_only_when_they_are_called(evaluator):
    importers = importers_of(evaluator)
    assert importers
    assert all(name.startswith("data/evaluation/") for name in importers)
    for name in importers:
        tree = ast.parse((PACKAGE / name).read_text())
        at_once = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
        assert evaluator not in "".join(map(ast.unparse, at_once)), name


@pytest.mark.parametrize("package", ["torch.distributed", "logging", "argparse", "tqdm", "matplotlib"])
def test_left_to_the_examples(package):
    assert importers_of(package) == set()


def test_no_use_of_torch_distributed():
    for path in FILES:
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.Attribute):
                is_used = node.attr == "distributed" and ast.unparse(node) == "torch.distributed"
                assert not is_used, name_of(path)


def test_annotations_are_not_postponed():
    assert importers_of("__future__") == set()  # TorchScript reads them


@pytest.mark.parametrize("module", list(PUBLIC))
def test_public_names(module):
    found = importlib.import_module(module)
    for name in PUBLIC[module]:
        assert hasattr(found, name), name
        assert name in found.__all__, name


@pytest.mark.parametrize("module", list(PUBLIC))
def test_all_is_true(module):
    found = importlib.import_module(module)
    assert all(hasattr(found, name) for name in found.__all__)
    assert len(set(found.__all__)) == len(found.__all__)


def test_docstrings():
    missing = []
    for path in FILES:
        tree = tree_of(path)
        definitions = [("the file", tree), *public_definitions(tree)]
        missing += [f"{name_of(path)}: {name}" for name, node in definitions if not ast.get_docstring(node)]
    assert missing == []


def test_the_package_is_typed():
    assert (PACKAGE / "py.typed").is_file()
