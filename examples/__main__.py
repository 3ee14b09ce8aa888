"""The console command ``sparse-rcnn``: runs a script of this folder under its own name.

    sparse-rcnn detect runs/shapes/best.pth photo.jpg
    torchrun --nproc-per-node 8 --no-python sparse-rcnn train --data /data/coco

In a clone, ``python examples train`` does the same. An installed package holds this folder under the name
``sparse_rcnn_commands``.
"""

import ast
import difflib
import re
import runpy
import sys
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
FIRST = ("detect", "train", "evaluate", "export", "dataset", "info")  # in the list; the others follow
NEEDS_A_CLONE = {"gpu_check"}  # and its tests


def summary_of(script: Path) -> str:
    """The first sentence of a script's docstring."""
    return (ast.get_docstring(ast.parse(script.read_text(encoding="utf-8"))) or "").partition("\n")[0]


def extra_with(package: str) -> str:
    """What to install for a package that is missing."""
    try:
        lines = requires("sparse_rcnn") or []
    except PackageNotFoundError:  # a clone that was not installed
        lines = []
    found = (re.fullmatch(rf"{package}\b.*extra == [\"'](\w+)[\"'].*", line) for line in lines)
    extra = next((match[1] for match in found if match), None)
    return f"pip install 'sparse_rcnn[{extra}]'" if extra else f"pip install {package}"


def main() -> None:
    """Runs the script that the first argument names, with the others."""
    sys.path.insert(0, str(FOLDER))
    from parts.command_line import ending_with_the_reader

    with ending_with_the_reader():
        run_command()


def run_command() -> None:
    """Runs the script, or prints the list of scripts."""
    scripts = {path.stem: path for path in FOLDER.glob("[a-z]*.py") if path.stem not in NEEDS_A_CLONE}
    names = [*FIRST, *sorted(scripts.keys() - {*FIRST})]
    name = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if name in ("-h", "--help"):
        print("usage: sparse-rcnn COMMAND ...; sparse-rcnn COMMAND --help says more\n")
        print("\n".join(f"  {name:<18} {summary_of(scripts[name])}" for name in names))
        return
    if name == "--version":
        from sparse_rcnn import __version__  # also of a clone that was not installed

        print(__version__)
        return
    if name not in scripts:
        alike = difflib.get_close_matches(name, names, n=1)
        hint = f"did you mean {alike[0]}?" if alike else f"the commands are {', '.join(names)}"
        sys.exit(f"error: sparse-rcnn has no command {name!r}; {hint}")
    try:
        from parts.command_line import CommandLine

        CommandLine.command = f"sparse-rcnn {name}"
        del sys.argv[1]
        runpy.run_path(str(scripts[name]), run_name="__main__")
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package in ("", "parts", "sparse_rcnn"):
            raise
        sys.exit(f"error: sparse-rcnn {name} needs {package}: {extra_with(package)}")


if __name__ == "__main__":
    main()
