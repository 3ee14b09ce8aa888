"""The tables of evaluate.py: a line for each class and each kind of error, and CrowdHuman's and LVIS's."""

import re

import pytest
from parts.evaluation_tables import format_classes, format_errors, format_other, other_figures
from random_detections import random_detections

from sparse_rcnn.data import analyse, load_dataset


def test_the_table_of_many_classes_is_straight():
    truth, results = random_detections(0, classes=80, objects=200, detections=400)
    truth["categories"][0]["name"] = "a name\nthat is much too long for a table"
    analysis = analyse(truth, results)
    header, *lines = format_classes(analysis).splitlines()
    assert len(lines) == 81
    assert {len(line) for line in lines} == {len(header)} == {95}
    assert lines[0].startswith("a name\\nthat is much too lo…  ")
    for label in (5, 79):
        numbers = re.findall(r"\d\.\d{3}|\d+|-", lines[label].removeprefix(f"class {label}"))
        expected = [getattr(analysis.classes, name)[label] for name in ("ap", "ap50", "ap75", "objects")]
        assert [float(number) for number in numbers[:4]] == pytest.approx(expected, abs=5e-4)
    numbers = [float(number) for number in re.findall(r"\d\.\d{3}", lines[-1])]
    assert numbers == pytest.approx([analysis.ap, analysis.ap50, analysis.ap75, *analysis.best], abs=5e-4)
    nothing = format_classes(analyse({**truth, "annotations": []}, [])).splitlines()[-1]
    assert nothing.split() == ["all", "classes", *"---", "0", *"----"]


def test_the_table_of_errors():
    analysis = analyse(*random_detections(0, detections=400))
    header, *lines = format_errors(analysis).splitlines()
    assert f"from score {analysis.threshold:.2f}" in header
    for line, name, count, gain in zip(
        lines, analysis.errors.names, analysis.shown_errors.counts, analysis.errors.gains, strict=True
    ):
        assert line.split()[:3] == [name, str(count), f"{gain:.3f}"]


@pytest.mark.parametrize(
    ("layout", "name", "figures"),
    [
        ("crowdhuman", "CrowdHuman", ["AP", "mMR", "JI"]),
        ("lvis_v1", "LVIS", ["AP", "AP50", "AP75", "APs", "APm", "APl", "APr", "APc", "APf"]),
        ("coco_images_folder", None, []),
    ],
)
def test_figures_that_a_data_set_has_of_its_own(shared_dir, layout, name, figures):
    dataset = load_dataset(shared_dir / "cases" / "layouts" / layout, "train")
    results = [{**entry, "score": 0.9} for entry in dataset.coco_ground_truth()["annotations"]]
    found = other_figures(dataset, results, 100, list(dataset.image_ids), dataset.category_ids)
    assert list(found) == ([name] if name else [])
    for key, values in found.items():
        assert list(values) == figures
        line, advice = format_other(found, 100)
        assert line.startswith(f"{key}: AP {values['AP']:.3f}, ")
        assert "--max-detections" in advice
        assert len(format_other(found, 500)) == 1
