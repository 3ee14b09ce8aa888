"""`analyse` against pycocotools, and rules that hold for any detections."""

import copy
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from random_detections import random_detections

from sparse_rcnn.data import analyse, evaluate_coco
from sparse_rcnn.data.evaluation import BestScore

# On a small grid, overlaps and scores tie and touch their thresholds.
SIDE = st.integers(0, 4)
BOXES = st.tuples(SIDE, SIDE, SIDE, SIDE).map(list)
SCORES = st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0])


@st.composite
def scenes(draw, scores=SCORES):
    place = st.tuples(st.integers(1, 3), st.integers(1, 3), BOXES)
    truth = draw(st.lists(st.tuples(place, st.booleans()), max_size=7))
    found = draw(st.lists(st.tuples(place, scores), max_size=12))
    annotations = [
        {"image_id": image, "category_id": label, "bbox": box, "iscrowd": int(crowd and draw(st.booleans()))}
        for (image, label, box), crowd in truth
    ]
    results = [
        {"image_id": image, "category_id": label, "bbox": box, "score": score}
        for (image, label, box), score in found
    ]
    names = ["cat", "Käse <&> \"'", "cat"]
    return {
        "images": [{"id": number} for number in (2, 1, 3)],
        "annotations": annotations,
        "categories": [{"id": number, "name": name} for number, name in enumerate(names, 1)],
    }, results


def assert_same(first, second):
    """NaN is equal to NaN. Where a box stands in the input may differ."""
    for name in set(first._fields) - {"row"}:
        one, other = getattr(first, name), getattr(second, name)
        if hasattr(one, "_fields"):
            assert_same(one, other)
        elif name in ("names", "class_names"):
            assert one == other
        else:
            np.testing.assert_allclose(one, other, atol=1e-12)


@given(scenes(), st.sampled_from([1, 2, 100]))
def test_ap_is_that_of_pycocotools(scene, most):
    truth, results = scene
    analysis, expected = analyse(truth, results, max_detections=most), evaluate_coco(truth, results, most)
    figures = [analysis.ap, analysis.ap50, analysis.ap75, *analysis.classes.ap]
    keys = ["AP", "AP50", "AP75", "AP/cat (1)", "AP/Käse <&> \"' (2)", "AP/cat (3)"]
    np.testing.assert_allclose(figures, [expected[key] for key in keys], atol=1e-12)


@pytest.mark.parametrize(("seed", "digits"), [(0, None), (1, 1)])
def test_ap_of_many_detections_is_that_of_pycocotools(seed, digits):
    truth, results = random_detections(seed, 8, 3, 150, 1500, crowd_share=0.1, score_digits=digits)
    for most in (20, 300):
        analysis, expected = analyse(truth, results, max_detections=most), evaluate_coco(truth, results, most)
        assert [analysis.ap, analysis.ap50, analysis.ap75] == pytest.approx(
            [expected["AP"], expected["AP50"], expected["AP75"]], abs=1e-12
        )
        for label in range(3):
            assert analysis.classes.ap[label] == pytest.approx(expected[f"AP/class {label}"], abs=1e-12)
        alone = evaluate_coco(truth, results, most, category_ids=[5])
        assert analysis.classes.ap50[2] == pytest.approx(alone["AP50"], abs=1e-12)
        assert analysis.classes.ap75[2] == pytest.approx(alone["AP75"], abs=1e-12)
    assert 0.05 < analysis.ap < 0.9


@given(scenes(), st.sampled_from([None, 0.0, 0.5, 1.0]))
def test_sums(scene, threshold):
    analysis = analyse(*scene, threshold=threshold)
    truth, found, confusion = analysis.boxes.truth, analysis.boxes.found, analysis.confusion
    objects = np.bincount(truth.label[~truth.crowd], minlength=3)
    assert analysis.classes.objects.tolist() == objects.tolist()
    assert confusion.matrix[:3].sum(1).tolist() == objects.tolist()
    counted = found.score >= analysis.threshold
    assert confusion.matrix[:, :3].sum() <= counted.sum()
    if not truth.crowd.any():
        columns = np.bincount(found.label[counted], minlength=3)
        assert confusion.matrix[:, :3].sum(0).tolist() == columns.tolist()
    for row in range(4):
        for column in range(4):
            assert len(confusion.cell(row, column)) == confusion.matrix[row, column]
    right, wrong, ignored = analysis.match.right, analysis.match.wrong, analysis.match.ignored
    assert (right.astype(int) + wrong + ignored == 1).all()
    errors = analysis.errors
    assert ((errors.kind >= 0) == wrong).all()
    assert errors.counts[:5].sum() == wrong.sum()
    shown = analysis.shown_errors
    assert ((shown.kind >= 0) == (wrong & counted)).all()
    assert (shown.missed >= errors.missed).all()
    assert (errors.gains[np.isfinite(errors.gains)] >= 0).all()
    assert analysis.calibration.detections.sum() == (~ignored).sum()
    assert analysis.image_objects.sum() == analysis.recall_by_size.objects.sum() == objects.sum()
    assert analysis.recall_by_count.objects.sum() == objects.sum()
    assert analysis.image_wrong.sum() == (wrong & counted).sum()
    assert analysis.image_missed.sum() == objects.sum() - (right & counted).sum()


@given(scenes(st.floats(0, 1)), st.randoms(use_true_random=False))
def test_order_changes_nothing(scene, random):
    truth, results = scene
    results = list({entry["score"]: entry for entry in results}.values())  # each score once
    changed = copy.deepcopy((truth, results))
    for entries in (changed[0]["images"], changed[0]["categories"], changed[1]):
        random.shuffle(entries)
    assert_same(analyse(truth, results), analyse(*changed))


@given(scenes())
def test_more_detections_never_lower_recall(scene):
    truth, results = scene
    few, all_of_them = analyse(truth, results[::2], threshold=0.5), analyse(truth, results, threshold=0.5)
    for one, other in [
        (few.curves.recall, all_of_them.curves.recall),
        (few.recall_by_size.recall, all_of_them.recall_by_size.recall),
        (few.recall_by_count.recall_at_threshold, all_of_them.recall_by_count.recall_at_threshold),
        (-few.image_missed, -all_of_them.image_missed),
    ]:
        assert (np.isnan(one) | (one <= other)).all()


@pytest.mark.parametrize("label", [None, 0, 3])
def test_the_best_score_is_the_best_of_all_scores(label):
    truth, results = random_detections(3, score_digits=2)
    analysis = analyse(truth, results)
    found, classes = analysis.boxes.found, analysis.classes
    if label is None:
        chosen, objects, best = np.ones(len(found.score), dtype=bool), classes.objects.sum(), analysis.best
    else:
        chosen, objects = found.label == label, classes.objects[label]
        best = BestScore(*(getattr(classes, name)[label] for name in BestScore._fields))
    f1 = {}
    for score in np.unique(found.score[chosen]).tolist():
        counted = chosen & (found.score >= score)
        hits, misses = (counted & analysis.match.right).sum(), (counted & analysis.match.wrong).sum()
        f1[score] = 2 * hits / (hits + misses + objects)
    assert f1[best.threshold] == max(f1.values()) == pytest.approx(best.f1)
    assert best.f1 == pytest.approx(2 * best.precision * best.recall / (best.precision + best.recall))


def test_the_curve_passes_through_the_best_score():
    analysis = analyse(*random_detections(3, score_digits=2))
    curves = analysis.overall_curves
    place = int(np.searchsorted(curves.thresholds, analysis.threshold - 1e-9))
    assert curves.f1[place] == pytest.approx(analysis.best.f1)
    assert curves.f1.max() == curves.f1[place]
    assert analysis.threshold == analysis.best.threshold == analysis.confusion.threshold


def test_by_hand():
    def box(x, width=10.0):
        return [x, 0.0, width, 10.0]

    truth = {
        "images": [{"id": 1}, {"id": 2}],
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
        "annotations": [
            {"image_id": 1, "category_id": 1, "bbox": box(0)},
            {"image_id": 1, "category_id": 1, "bbox": box(100)},
            {"image_id": 1, "category_id": 2, "bbox": box(200)},
            {"image_id": 2, "category_id": 2, "bbox": [0.0, 0.0, 100.0, 100.0]},
            {"image_id": 2, "category_id": 2, "bbox": [200.0, 0.0, 300.0, 300.0], "iscrowd": 1},
        ],
    }
    results = [
        {"image_id": 1, "category_id": 1, "bbox": box(0), "score": 0.9},  # right
        {"image_id": 1, "category_id": 1, "bbox": box(0, 9.0), "score": 0.8},  # duplicate
        {"image_id": 1, "category_id": 1, "bbox": box(107), "score": 0.7},  # localisation
        {"image_id": 1, "category_id": 1, "bbox": box(200), "score": 0.6},  # class
        {"image_id": 1, "category_id": 1, "bbox": box(207), "score": 0.5},  # both
        {"image_id": 1, "category_id": 2, "bbox": box(300), "score": 0.4},  # background
        {"image_id": 2, "category_id": 2, "bbox": [250.0, 50.0, 50.0, 50.0], "score": 0.3},  # in the crowd
    ]
    analysis = analyse(truth, results, threshold=0.35)
    errors = analysis.errors
    assert dict(zip(errors.names, errors.counts.tolist(), strict=True)) == {
        **{"class": 1, "localisation": 1, "both": 1, "duplicate": 1, "background": 1, "missed": 1}
    }
    assert errors.kind.tolist() == [-1, 3, 1, 0, 2, 4, -1]
    assert errors.truth.tolist() == [-1, 0, 1, 2, -1, -1, -1]
    assert errors.missed.tolist() == [False, False, False, True, False]
    assert analysis.match.ignored.tolist() == [False] * 6 + [True]
    assert analyse(truth, results, threshold=0.75).shown_errors.counts.tolist() == [0, 0, 0, 1, 0, 3]
    # cat: one of two is found. dog: one is called a cat, one is missed, and one detection is on background.
    assert analysis.confusion.matrix.tolist() == [[1, 0, 1], [1, 0, 1], [3, 1, 0]]
    assert analysis.boxes.image_ids[analysis.confusion.image[analysis.confusion.cell(1, 2)]].tolist() == [2]
    assert analysis.recall_by_size.objects.tolist() == [3, 0, 1]
    assert analysis.recall_by_size.recall[[0, 2]].tolist() == [pytest.approx(1 / 3), 0]
    assert math.isnan(analysis.recall_by_size.recall[1])
    assert analysis.recall_by_count.names == ("1", "2-3", "4-7", "8-15", "16-31", "32+")
    assert analysis.recall_by_count.objects.tolist() == [1, 3, 0, 0, 0, 0]
    assert analysis.image_objects.tolist() == [3, 1]
    assert analysis.image_missed.tolist() == [2, 1]
    assert analysis.image_wrong.tolist() == [5, 0]
    assert analysis.best == pytest.approx((0.9, 1.0, 0.25, 0.4))


@pytest.mark.parametrize("classes", [1, 1203])
def test_nothing_to_count(classes):
    truth, results = random_detections(0, classes=classes)
    empty = {**truth, "annotations": []}
    for part, found in [(empty, results), (truth, []), (empty, [])]:
        analysis = analyse(part, found)
        assert math.isnan(analysis.ap) == (not part["annotations"])
        assert analysis.confusion.matrix.shape == (classes + 1, classes + 1)
        assert analysis.curves.f1.shape == (classes, 101)
        assert analysis.threshold == 0.5


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"score": 1.5}, r"result 1 has score 1\.5: scores must be in 0\.\.1"),
        ({"image_id": 4}, "result 1 has image_id 4, which is not in the data set"),
    ],
)
def test_wrong_results(changed, message):
    truth, results = random_detections(0, detections=2)
    with pytest.raises(ValueError, match=message):
        analyse(truth, [results[0], {**results[1], **changed}])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"iou": 0.1}, r"iou must be above 0\.1 and at most 1, got 0\.1"),
        ({"threshold": 2.0}, r"threshold must be in 0\.\.1, got 2\.0"),
        ({"max_detections": 0}, "max_detections must be at least 1, got 0"),
        ({"image_ids": [4]}, r"image_ids must be ids of the data set, got \[4\]"),
    ],
)
def test_wrong_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        analyse(*random_detections(), **options)
