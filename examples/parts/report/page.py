"""Writes the page: its HTML, style, scripts and data in one file."""

from pathlib import Path
from typing import Any

from parts.report.packing import script_text

SOURCES = Path(__file__).parent
SCRIPTS = ("data.js", "charts.js", "table.js", "matrix.js", "photos.js", "page.js")


def write_page(contents: dict[str, Any], directory: Path) -> Path:
    """Writes report.html. All names reach the page as data, and its script puts them in as text."""
    parts = {
        "/* STYLE */": (SOURCES / "page.css").read_text(encoding="utf-8"),
        "/* SCRIPT */": "".join((SOURCES / name).read_text(encoding="utf-8") for name in SCRIPTS),
        "/* DATA */": script_text(contents),
    }
    page = (SOURCES / "page.html").read_text(encoding="utf-8")
    for mark, text in parts.items():  # the data come last: nothing is replaced in them
        page = page.replace(mark, text)
    path = directory / "report.html"
    path.write_text(page, encoding="utf-8")
    return path
