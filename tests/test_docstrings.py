"""Every public name has an example, every example runs, and `__all__` names what a file defines."""

import ast
import builtins
import doctest
import importlib
import inspect
from pathlib import Path

import pytest
import torch
from PIL import Image

import sparse_rcnn
from sparse_rcnn import build_sparse_rcnn
from sparse_rcnn.nn import ImageSize, save_checkpoint

PACKAGE = Path(sparse_rcnn.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
VOC_PAGE = """<annotation><size><width>640</width><height>480</height></size><object><name>cat</name><bndbox>
<xmin>9</xmin><ymin>9</ymin><xmax>90</xmax><ymax>90</ymax></bndbox></object></annotation>"""
ROLES = ("func", "class", "meth", "data", "mod", "attr")
MODULES = {
    ".".join(("sparse_rcnn", *path.relative_to(PACKAGE).with_suffix("").parts)): path
    for path in FILES
    if path.name != "__init__.py"
}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp("checkpoint") / "mine.pth"
    torch.manual_seed(0)
    model = build_sparse_rcnn(
        "resnet10", num_classes=2, num_stages=1, hidden_dim=16, dynamic_dim=4, backbone_weights=None
    )
    save_checkpoint(path, model.eval(), ["cat", "dog"], image_size=ImageSize(96, 128))
    return path


@pytest.fixture
def photo_folder(tmp_path, monkeypatch):
    """The examples read photo.jpg and VOC2007, and write into the same folder."""
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (640, 480)).save("photo.jpg")
    for folder in ("Annotations", "ImageSets/Main", "JPEGImages"):
        Path("VOC2007", folder).mkdir(parents=True)
    Image.new("RGB", (640, 480)).save("VOC2007/JPEGImages/1.jpg")
    Path("VOC2007/ImageSets/Main/train.txt").write_text("1\n")
    Path("VOC2007/Annotations/1.xml").write_text(VOC_PAGE)


# Examples that build a whole model take most of the time.
WITH_EXAMPLES = [
    pytest.param(name, marks=pytest.mark.slow if ">>> model = build_sparse_rcnn(" in text else ())
    for name, text in ((name, path.read_text()) for name, path in MODULES.items())
    if ">>>" in text
]


@pytest.mark.parametrize("module", WITH_EXAMPLES)
def test_examples_run(module, photo_folder, request):
    found = importlib.import_module(module)
    if 'load_detector("mine.pth"' in MODULES[module].read_text():
        Path("mine.pth").symlink_to(request.getfixturevalue("checkpoint"))
    flags = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
    failed, _ = doctest.testmod(found, extraglobs={"torch": torch}, optionflags=flags)
    assert failed == 0


def names_needed(text):
    """The names that the example in a docstring takes from elsewhere. A part that is skipped may take any."""
    examples = doctest.DocTestParser().get_examples(text)
    nodes = [x for e in examples if not e.options for x in ast.walk(ast.parse(e.source))]
    names = [node for node in nodes if isinstance(node, ast.Name)]
    own = {node.id for node in names if isinstance(node.ctx, ast.Store)}
    own |= {node.name.partition(".")[0] for node in nodes if isinstance(node, (ast.alias, ast.FunctionDef))}
    own |= {node.arg for node in nodes if isinstance(node, ast.arg)}
    return {node.id for node in names} - own - {"torch", *dir(builtins)}


@pytest.mark.parametrize("floor", ["ops", "loss", "nn", "data", "inference"])
def test_every_public_name_has_an_example(floor):
    found = importlib.import_module(f"sparse_rcnn.{floor}")
    public = {name: getattr(found, name) for name in found.__all__}
    if floor in ("ops", "loss"):
        public = {name: value for name, value in public.items() if not isinstance(value, type)}
    described = {name: v.__doc__ for name, v in public.items() if inspect.isfunction(v) or inspect.isclass(v)}
    without = [name for name, text in described.items() if ">>>" not in text]
    assert without == []
    # A reader has torch and the public names of the floor. An example imports what else it needs.
    needed = {name: names_needed(text) - {*found.__all__} for name, text in described.items()}
    assert {name: names for name, names in needed.items() if names} == {}


def defined_names(tree):
    """Names that a file makes itself, without those that it imports."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            for name in (name for target in targets for name in ast.walk(target)):
                if isinstance(name, ast.Name) and isinstance(name.ctx, ast.Store):
                    yield name.id


def test_all_names_what_the_file_defines():
    for module, path in MODULES.items():
        public = {name for name in defined_names(ast.parse(path.read_text())) if name[0] != "_"}
        found = set(importlib.import_module(module).__all__)
        assert found == (public or {"__version__"}), module


def test_no_roles_of_sphinx():
    """mkdocstrings makes the site, and would show them unchanged."""
    assert [str(path) for path in FILES if any(f":{role}:`" in path.read_text() for role in ROLES)] == []
