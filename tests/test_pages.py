"""The pages are right: their Python runs, and files, options and links exist."""

import contextlib
import gc
import html
import importlib
import io
import os
import re
import runpy
import shutil
import subprocess
import sys
import warnings
from collections import Counter
from pathlib import Path
from textwrap import dedent
from typing import NamedTuple

import pytest
from small_model import build_small_model

from sparse_rcnn.nn import ImageSize, save_checkpoint

ROOT = Path(__file__).resolve().parents[1]
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for path in sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
}
BLOCK = re.compile(
    r"(?:<!-- not run: (?P<reason>[^>]+) -->\s*)?^ *```python\n(?P<code>.*?)^ *```$", re.DOTALL | re.MULTILINE
)
# Blocks that are not run with their page, by reason.
NOT_RUN = {
    "takes two minutes": 1,  # before a release, below
    "needs huggingface_hub": 1,  # tests/nn/checkpoints/test_checkpoint.py runs it
    "tests/examples/test_export.py runs it on a file that export.py wrote": 1,
}
# Scripts whose options belong to commands.
COMMANDS = {"experiments.py": ("show", "train", "table")}
# Options of torchrun, Slurm, pytest and others, which pages name alone.
OF_OTHERS = {"--max-restarts", "--no-python", "--nnodes", "--nodes", "--shutdown-timeout", "--help", "--only"}


class Block(NamedTuple):
    """A block of Python, and where it begins in its page."""

    line: int
    code: str
    reason: str | None


def blocks_of(page: str) -> list[Block]:
    text = PAGES[page]
    return [
        Block(text.count("\n", 0, found.start("code")), dedent(found["code"]), found["reason"])
        for found in BLOCK.finditer(text)
    ]


@pytest.fixture
def trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The present folder has a photo, a folder of photos, and what train.py writes."""
    monkeypatch.chdir(tmp_path)
    Path("photos").mkdir()
    for name in ("photo.jpg", "photos/a.jpg"):
        shutil.copy(ROOT / "docs" / "predictions.jpg", name)
    for run in ("runs/mine", "runs/shapes"):
        Path(run).mkdir(parents=True)
        for name in ("checkpoint.pth", "best.pth"):
            size = ImageSize(96, 128)
            save_checkpoint(f"{run}/{name}", build_small_model(), ["a", "b", "c"], image_size=size)


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, marks=() if page == "README.md" else pytest.mark.slow)
        for page in PAGES
        if any(not block.reason for block in blocks_of(page))
    ],
)
def test_python_runs(page: str, trained: None) -> None:
    names: dict[str, object] = {"__name__": "__main__"}
    for block in blocks_of(page):
        if not block.reason:  # lines are counted as in the page, for whoever reads the traceback
            exec(compile("\n" * block.line + block.code, str(ROOT / page), "exec"), names)


@pytest.mark.release
def test_the_count_of_a_step_prints_what_its_page_says(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    page = "docs/how_to/plan_a_cluster.md"
    (code,) = (block.code for block in blocks_of(page) if block.reason == "takes two minutes")
    exec(compile(code, page, "exec"), {"__name__": "__main__"})
    said = re.search(r"^    It prints.*?^    ```\n(.*?)^    ```$", PAGES[page], re.DOTALL | re.MULTILINE)
    assert said is not None
    assert capsys.readouterr().out == dedent(said[1])


def test_blocks_that_are_not_run_are_counted() -> None:
    assert Counter(b.reason for page in PAGES for b in blocks_of(page) if b.reason) == NOT_RUN


def test_lines_of_the_five_jobs_are_counted() -> None:
    intro, *jobs = PAGES["docs/why.md"].split("\n## ")
    rows = [row.strip("|").split("|") for row in intro.splitlines() if row.startswith("|")]
    (_, *libraries), _, *said = [[cell.strip() for cell in row] for row in rows]
    counted = []
    for job in jobs:
        blocks = re.findall(r"^### (.+?)\n+```(\w+)\n(.*?)^```$", job, re.DOTALL | re.MULTILINE)
        assert [library for library, *_ in blocks] == libraries
        for library, language, code in blocks:
            if language == "py":
                compile(code, library, "exec")
        lines = [str(sum(map(bool, code.split("\n")))) for *_, code in blocks]
        counted.append([job.partition("\n")[0], *lines])
    assert said == counted


# PyTorch 2.11 warns of itself when it exports to ONNX.
@pytest.mark.filterwarnings("ignore:.*LeafSpec.* is deprecated:FutureWarning")
@pytest.mark.slow
def test_our_lines_of_the_five_jobs_run(trained: None) -> None:
    ours = re.findall(r"^### sparse_rcnn\n+```py\n(.*?)^```$", PAGES["docs/why.md"], re.DOTALL | re.MULTILINE)
    assert len(ours) == 3
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # json.dump(..., open(...)) is short
        for code in ours:
            exec(code, {"__name__": "__main__"})
            gc.collect()
    assert all(Path(name).is_file() for name in ("found.png", "mine.onnx", "found.json"))


def test_files_that_pages_name_exist() -> None:
    named = re.compile(r"(?<![\w/.-])(?:examples|sparse_rcnn|tests|docs)/[\w/.-]*\.(?:py|cpp|md|jpg)\b")
    missing = {
        f"{page}: {name}"
        for page, text in PAGES.items()
        for name in named.findall(text)
        if not (ROOT / name).exists()
    }
    assert not missing


def options_of(script: str, *command: str) -> set[str]:
    """The options that the help of a script names, and of its commands if it has some."""
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()) as printed:
        patch.setattr(sys, "argv", [script, *command, "--help"])
        with pytest.raises(SystemExit) as stopped:
            runpy.run_path(str(ROOT / "examples" / script), run_name="__main__")
    assert stopped.value.code == 0
    options = set(re.findall(r"--[a-z][a-z0-9-]+", printed.getvalue()))
    commands = () if command else COMMANDS.get(script, ())
    return options.union(*(options_of(script, name) for name in commands))


def test_options_that_pages_name_exist() -> None:
    known: dict[str, set[str]] = {}
    for page, text in PAGES.items():
        named_commands = r"(?<!tests/)(?:examples/|sparse-rcnn (?=\w+ ))(\w+)(?:\.py)? ((?:.|(?<=\\)\n)*)"
        for name, command in re.findall(named_commands, text):
            script = f"{name}.py"
            known.setdefault(script, options_of(script))
            named = set(
                re.findall(r"(?<![\w`=-])--[a-z][a-z0-9-]+", command.partition("#")[0].partition(" -- ")[0])
            )
            assert named <= known[script], (page, script, named - known[script])
    anywhere = set().union(*known.values()) | OF_OTHERS
    for page, text in PAGES.items():
        named = set(re.findall(r"`(--[a-z][a-z0-9-]+)", text))
        assert named <= anywhere, (page, named - anywhere)


def test_links_lead_to_files() -> None:
    for page, text in PAGES.items():
        text = re.sub(r"^ *```.*?^ *```$", "", text, flags=re.DOTALL | re.MULTILINE)
        for link in re.findall(r"\]\((?!http|#)([^)#\s]+)", text):
            assert (ROOT / page).parent.joinpath(link).exists(), (page, link)


def test_another_page_leads_to_each_page() -> None:
    linked = {
        (ROOT / page).parent.joinpath(link).resolve()
        for page, text in PAGES.items()
        for link in re.findall(r"\]\((?!http|#)([^)#\s]+)", text)
        if (ROOT / page).parent.joinpath(link).resolve() != ROOT / page
    }
    assert not {page for page in PAGES if ROOT / page not in linked} - {"README.md"}


def test_errors_that_a_page_explains_exist() -> None:
    code = "".join(
        path.read_text(encoding="utf-8")
        for top in ("sparse_rcnn", "examples")
        for path in ROOT.glob(f"{top}/**/*.py")
    )
    rows = [
        line.split("|")[1] for line in PAGES["docs/how_to/errors.md"].splitlines() if line.startswith("|")
    ]
    words = [word for row in rows for word in re.findall(r"`([^`-]+)`", row)]
    assert len(words) > 10
    assert not [word for word in words if word not in code]


def test_readme_is_short_and_begins_with_the_two_commands() -> None:
    assert len(PAGES["README.md"].split()) <= 900
    # .ci/run takes the second block.
    first, second = re.findall(r"^```bash\n(.*?)^```$", PAGES["README.md"], re.DOTALL | re.MULTILINE)
    assert "examples/train.py" in first
    assert "pytest" in second


def test_files_for_contributors_can_be_read_and_name_this_version() -> None:
    yaml = pytest.importorskip("yaml")
    paths = [".pre-commit-config.yaml", "CITATION.cff", *ROOT.glob(".github/**/*.yml")]
    read = {Path(path).name: yaml.safe_load((ROOT / path).read_text()) for path in paths}
    assert read["CITATION.cff"]["version"] == importlib.import_module("sparse_rcnn").__version__
    # README's second command, and so all checks, with the oldest PyTorch that pyproject.toml allows.
    steps = read["checks.yml"]["jobs"]["tests"]["steps"]
    oldest = re.search(r'"torch>=([\d.]+)"', (ROOT / "pyproject.toml").read_text())
    assert oldest is not None
    assert any(f"torch=={oldest[1]}." in step.get("run", "") for step in steps)
    assert any(step.get("run") == "bash .ci/run" for step in steps)


@pytest.mark.slow
def test_site_builds_without_remarks_and_names_everything_public(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for floor in ("ops", "loss", "nn", "data", "inference"):
        page = html.unescape((tmp_path / "reference" / f"{floor}.html").read_text())
        for name in importlib.import_module(f"sparse_rcnn.{floor}").__all__:
            assert f'id="sparse_rcnn.{floor}.{name}"' in page, f"{floor}.{name} has no entry"
    for page in tmp_path.rglob("*.html"):  # nothing is loaded from elsewhere
        text = page.read_text()
        assert not re.findall(
            r'<(?:script|img)[^>]*src="?https?:|<link[^>]*stylesheet[^>]*href="?https?:', text
        ), page
