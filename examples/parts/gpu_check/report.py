"""The results of all parts as JSON, Markdown and a log, and the most important lines."""

import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

from parts.gpu_check.parts import Part, Result
from parts.gpu_check.targets import Tables, Target, judge
from parts.measuring import Table, to_markdown


def read_tests(directory: Path) -> list[dict[str, Any]]:
    """All tests with their outcomes and the values that they measured."""
    tests = []
    for path in sorted(directory.glob("*.xml")):
        try:
            cases = list(ElementTree.parse(path).getroot().iter("testcase"))
        except ElementTree.ParseError:  # ended while it was written
            continue
        for case in cases:
            test: dict[str, Any] = {"file": path.stem, "test": case.get("name"), "outcome": "passed"}
            for kind in ("failure", "error", "skipped"):
                if (element := case.find(kind)) is not None:
                    test |= {"outcome": kind, "message": (element.get("message") or "")[:500]}
            measured = {p.get("name"): p.get("value") for p in case.iter("property")}
            tests.append(test | ({"measured": measured} if measured else {}))
    return tests


def read_tables(directory: Path, parts: list[Part]) -> tuple[list[Table], str]:
    """The tables of all parts, also of those that were ended, and the versions and device."""
    tables, header = [], ""
    for part in parts:
        path = directory / part.name / "benchmark.json"
        if part.counts and path.exists():
            try:
                record = json.loads(path.read_text())
            except ValueError:  # ended while it was written
                continue
            header = header or record["header"].partition("` on ")[2].partition("; medians")[0]
            tables += [Table(**table) for table in record["tables"]]
    return tables, header


def by_name(tables: list[Table]) -> Tables:
    """The rows by title and name, for `judge`. Tables with the same title are merged."""
    found: Tables = {}
    for table in tables:
        found.setdefault(table.title, {}).update({row[""]: row for row in table.rows})
    return found


def line_of(target: Target) -> str:
    """One line for a target."""
    if target.measured is None:
        return f"not measured  {target.text}"
    return f"{'met' if target.met else 'NOT MET':<13} {target.text}: {target.measured:.3g}"


def write_report(directory: Path, output: Path, parts: list[Part], results: list[Result]) -> list[str]:
    """Writes gpu_check.json, .md and .log. Returns lines, the most important last."""
    tests = read_tests(directory)
    tables, header = read_tables(directory, parts)
    targets = judge(by_name(tables))
    not_passed = [test for test in tests if test["outcome"] in ("failure", "error")]
    lines = [
        f"{one['file']}: {one['test']}: {(one['message'].splitlines() or [''])[0][:160]}"
        for one in not_passed
    ]
    failed_rows = [
        f"{table.title}: {row['']}: {row['failed']}"
        for table in tables
        for row in table.rows
        if "failed" in row
    ]
    lines += failed_rows
    for status in sorted({result.status for result in results} - {"passed"}):
        names = ", ".join(result.name for result in results if result.status == status)
        lines.append(f"{status}: {names}")
    passed = sum(test["outcome"] == "passed" for test in tests)
    skipped = sum(test["outcome"] == "skipped" for test in tests)
    lines.append(f"tests: {passed} passed, {len(not_passed)} failed, {skipped} skipped")
    lines += map(line_of, targets)
    output.mkdir(parents=True, exist_ok=True)
    record = {
        "header": header,
        "parts": [result._replace(log="")._asdict() for result in results],
        "tests": tests,
        "tables": [table._asdict() for table in tables],
        "targets": [target._asdict() for target in targets],
    }
    (output / "gpu_check.json").write_text(json.dumps(record, indent=1))
    measured = [
        {
            "": f"{one['file']}: {one['test']}",
            "outcome": one["outcome"],
            "measured": "; ".join(f"{name} {value}" for name, value in one.get("measured", {}).items()),
        }
        for one in tests
    ]
    ran = [{"": r.name, "status": r.status, "s": r.seconds} for r in results]
    text = [f"{header}.\n", *(f"- {line}" for line in lines), "", to_markdown(Table("Parts", ran))]
    text += [*map(to_markdown, tables), to_markdown(Table("Tests", measured))]
    (output / "gpu_check.md").write_text("\n".join(text))
    logs = [f"===== {result.name}: {result.status}\n{result.log}" for result in results]
    (output / "gpu_check.log").write_text("\n".join(logs))
    return lines
