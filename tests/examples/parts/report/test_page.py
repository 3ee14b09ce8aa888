"""The page in a browser, from disk: a reader looks, presses and types."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from parts.report.report import Evaluated, write_report

from sparse_rcnn.data import Analysis, DetectionDataset, analyse

pytestmark = pytest.mark.slow  # a browser
NAMELESS = "(class 5)"


class Watched:
    """A page, its requests and its errors."""

    def __init__(self, browser: Any, file: Path, **options: Any) -> None:
        self.page = browser.new_page(**options)
        self.loaded: list[str] = []
        self.errors: list[str] = []
        self.page.on("request", lambda request: self.loaded.append(request.url))
        self.page.on("console", lambda message: self.errors.append(message.text))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("dialog", lambda dialog: self.errors.append(f"dialog {dialog.message}"))
        self.page.goto(file.as_uri())


@pytest.fixture
def page(browser: Any, report: Any) -> Iterator[Any]:
    watched = Watched(browser, report.page)
    yield watched.page
    watched.page.close()
    assert watched.errors == []
    assert all(url.startswith(report.page.parent.as_uri()) for url in watched.loaded)


def set_threshold(page: Any, value: float) -> None:
    page.fill("#threshold", str(value))


def counts_of(page: Any) -> dict[str, float]:
    """The numbers of the line below the slider, by the words after them."""
    text = page.inner_text("#counts")
    found, objects = map(int, re.findall(r"^(\d+) boxes found on (\d+) objects", text)[0])
    kinds = {
        words: int(number) for number, words in re.findall(r"(\d+) ([a-z ]+)[,.]", text.partition(":")[2])
    }
    return {"found": found, "objects": objects, **kinds}


def column(page: Any, name: str) -> list[str]:
    heads = page.locator("#class-table thead th").all_inner_texts()
    number = next(i for i, head in enumerate(heads) if head.strip(" ▲▼") == name) + 1
    return page.locator(f"#class-table tbody tr :nth-child({number}):is(td, th)").all_inner_texts()


def files_shown(page: Any) -> list[str]:
    return page.locator(".card .file").all_inner_texts()


def test_names_are_text(page: Any, report: Any) -> None:
    assert page.title() == page.inner_text("h1") == "one.pth on <photos>"
    expected = {" ".join(name.split()) or NAMELESS for name in report.dataset.class_names}
    assert {" ".join(name.split()) for name in column(page, "class")} == expected
    options = page.locator("#class option").all_text_contents()
    assert options[1:6] == report.dataset.class_names[:5]
    assert files_shown(page)[0] in {Path(path).name for path in report.dataset.image_paths}


@pytest.mark.parametrize("threshold", [0, 0.3, 0.5, 1])
def test_the_slider_counts_as_the_analysis(page: Any, report: Any, threshold: float) -> None:
    analysis = report.analyses[0]
    set_threshold(page, threshold)
    counts, shown = counts_of(page), analysis.boxes.found.score >= threshold
    right = int((analysis.match.right & shown).sum())
    assert counts["found"] == shown.sum()
    assert counts["objects"] == analysis.classes.objects.sum()
    assert counts.get("correct", 0) == right
    assert counts.get("second on one object", 0) == (shown & (analysis.errors.kind == 3)).sum()
    assert counts.get("on background", 0) == (shown & (analysis.errors.kind == 4)).sum()
    by_class = np.bincount(analysis.boxes.found.label[analysis.match.right & shown], minlength=8)
    with np.errstate(invalid="ignore"):
        expected = by_class / analysis.classes.objects
    page.click("#class-table thead th:nth-child(1) button")  # from z to a, then from a to z
    recall = dict(zip(column(page, "class"), column(page, "recall"), strict=True))
    for name, value in zip(report.dataset.class_names, expected, strict=True):
        if name in recall:
            assert recall[name] == ("–" if np.isnan(value) else f"{value:.3f}")


def test_the_slider_draws_the_boxes_again(page: Any, report: Any) -> None:
    page.select_option("#order", "file")
    found = report.analyses[0].boxes.found
    for threshold in (0.15, 0.65):
        set_threshold(page, threshold)
        drawn = page.locator(".card").nth(4).locator("figure").nth(1).locator(".frame").count()
        assert drawn == ((found.image == 4) & (found.score >= threshold)).sum()
    before = page.inner_text("#shown")
    page.focus("#threshold")
    page.keyboard.press("ArrowRight")
    assert float(page.inner_text("#shown")) == pytest.approx(float(before) + 0.01)


def test_the_table_sorts_and_filters(page: Any) -> None:
    page.get_by_role("button", name="AP75").click()
    values = column(page, "AP75")
    numbers = [float(value) for value in values if value != "–"]
    assert numbers == sorted(numbers, reverse=True)
    assert values[-1] == "–"  # a class without objects is last in any order
    assert page.locator("#class-table th[aria-sort=descending]").inner_text().startswith("AP75")
    page.keyboard.press("Enter")  # the heading keeps the focus
    values = column(page, "AP75")
    assert [float(value) for value in values if value != "–"] == sorted(numbers)
    assert values[-1] == "–"
    page.fill("#class-search", "BOLD")
    assert column(page, "class") == ["<b>bold</b> <!-- -->"]


def matrix_of(analysis: Analysis, threshold: float) -> np.ndarray:
    """By the rule on the page: first correct boxes, then boxes of another class, by falling score."""
    boxes, kind = analysis.boxes, np.where(analysis.match.right, -2, analysis.errors.kind)
    size = len(boxes.category_ids) + 1
    matrix, met = np.zeros((size, size), int), set()
    shown = np.flatnonzero(boxes.found.score >= threshold)
    for i in shown[np.argsort(kind[shown] != -2, kind="stable")]:
        about = analysis.match.truth[i] if kind[i] == -2 else analysis.errors.truth[i]
        takes = kind[i] == -2 or (kind[i] == 0 and about not in met)
        matrix[boxes.truth.label[about] if takes else -1, boxes.found.label[i]] += 1
        met |= {about} if takes else set()
    for j in set(range(len(boxes.truth.label))) - met:
        matrix[boxes.truth.label[j], -1] += 1
    return matrix


def test_the_matrix_leads_to_the_photos_of_a_cell(page: Any, report: Any) -> None:
    set_threshold(page, 0.2)
    rows = page.locator("#matrix-table tbody tr").all()
    shown = np.array([[int(text or 0) for text in row.locator("td").all_inner_texts()] for row in rows])
    assert (shown == matrix_of(report.analyses[0], 0.2)).all()
    row, at = 2, int(np.flatnonzero(shown[2, :-1])[0])
    rows[row].locator("td").nth(at).locator("button").click()
    assert page.locator("#cell").is_visible()
    number = len(files_shown(page))
    assert 1 <= number <= shown[row, at]
    assert page.inner_text("#photo-count") == f"1 to {number} of {number} photos"
    page.click("#cell")
    assert "of 20 photos" in page.inner_text("#photo-count")


def test_the_matrix_and_the_large_photo_need_no_mouse(page: Any) -> None:
    page.locator("#matrix-table button[tabindex='0']").focus()
    names = []
    for key in ("ArrowRight", "ArrowDown", "ArrowLeft"):
        page.keyboard.press(key)
        names.append(page.evaluate("document.activeElement.title"))
    assert len(set(names)) == 3
    assert page.locator("#matrix-table button[tabindex='0']").count() == 1
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "cell"
    page.keyboard.press("Enter")  # away with the cell
    page.locator(".card").first.focus()
    page.keyboard.press("Enter")
    first = page.inner_text("dialog strong")
    page.keyboard.press("ArrowRight")
    assert page.inner_text("dialog strong") != first
    assert "2 of 20" in page.inner_text("dialog")
    page.keyboard.press("Escape")
    assert not page.locator("dialog").is_visible()


def test_photos_are_filtered_and_ordered(page: Any, report: Any) -> None:
    analysis = report.analyses[0]
    set_threshold(page, 0.5)
    page.select_option("#kind", "duplicate")
    of_kind = (analysis.errors.kind == 3) & (analysis.boxes.found.score >= 0.5)
    names = [Path(report.dataset.image_paths[i]).name for i in np.unique(analysis.boxes.found.image[of_kind])]
    assert sorted(files_shown(page)) == sorted(names)
    page.select_option("#kind", "all")
    page.fill("#photo-search", "<1> & 'É'")
    assert files_shown(page) == ["photo <1> & 'é'.png"]
    page.fill("#photo-search", "no such photo")
    assert page.inner_text("#photo-count") == "No photo is of this kind."
    page.fill("#photo-search", "")
    page.click("#after")
    assert "13 to 20 of 20" in page.inner_text("#photo-count")
    page.click("#error-bars button >> nth=3")
    assert page.input_value("#kind") == "duplicate"


def test_a_class_is_seen_in_all_parts(page: Any, report: Any) -> None:
    set_threshold(page, 0)
    page.select_option("#class", "3")
    assert counts_of(page)["objects"] == report.analyses[0].classes.objects[3]
    assert "bold" in page.inner_text("#by-threshold strong")
    assert page.locator("#class-table tr.chosen").count() == 1


def test_two_detectors_are_compared(page: Any, report: Any) -> None:
    heads = page.locator("#figures table").first.locator("th[scope=col]").all_inner_texts()
    assert heads == ["", "one.pth", "other.pth", "difference"]
    one, other, difference = page.locator("#figures tbody tr").first.locator("td").all_inner_texts()
    assert one == f"{report.analyses[0].ap:.3f}"
    assert other == f"{report.analyses[1].ap:.3f}"
    assert float(difference) == pytest.approx(report.analyses[0].ap - report.analyses[1].ap, abs=6e-4)
    assert page.locator(".card").first.locator("figure").count() == 3
    page.select_option("#order", "worse")
    assert page.locator(".card").count() == 12


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_light_and_dark(browser: Any, report: Any, scheme: str) -> None:
    page = Watched(browser, report.page, color_scheme=scheme).page

    def brightness() -> float:
        colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
        return sum(map(int, re.findall(r"\d+", colour)[:3])) / 3

    dark = brightness() < 60
    assert dark == (scheme == "dark")
    page.click("#theme")
    assert (brightness() < 60) != dark
    page.close()


def test_nothing_is_cut_off_on_a_phone(browser: Any, report: Any) -> None:
    page = Watched(browser, report.page, viewport={"width": 380, "height": 700}).page
    assert page.evaluate("document.documentElement.scrollWidth") <= 380
    page.close()


@pytest.mark.parametrize("what", ["nothing", "no detections", "no objects", "equal scores", "many classes"])
def test_there_is_always_a_page(browser: Any, report: Any, tmp_path: Path, what: str) -> None:
    photo = report.dataset.image_paths[1]
    has_objects = what not in ("nothing", "no objects")
    names = [f"class {k}" for k in range(1203)] if what == "many classes" else ["only"]
    boxes = [[[5, 5, 25, 25]], []] if has_objects else [[], []]
    dataset = DetectionDataset.from_boxes([photo] * 2, boxes, [[0] * len(b) for b in boxes], names)
    results = [
        {"image_id": image, "category_id": category, "bbox": [5, 5, 20, 20], "score": 0.5}
        for image in dataset.image_ids
        for category in dataset.category_ids[:3]
    ]
    results = results if what not in ("nothing", "no detections") else []
    evaluated = [Evaluated("one", {}, analyse(dataset, results))]
    file, _ = write_report(tmp_path, what, dataset, evaluated)
    watched = Watched(browser, file)
    counts = counts_of(watched.page)
    assert (counts["objects"], counts["found"]) == (int(has_objects), len(results))
    assert watched.page.locator("#class-table tbody tr").count() == len(names)
    assert watched.page.locator(".card").count() == 2
    assert "NaN" not in watched.page.inner_text("body")
    assert watched.errors == []
    watched.page.close()
