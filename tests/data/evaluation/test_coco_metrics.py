import contextlib
import copy
import io
import math

import pytest
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from random_detections import random_detections

from sparse_rcnn.data import (
    CocoDetection,
    VocDetection,
    analyse,
    coco_results,
    evaluate_coco,
    find_coco,
    format_metrics,
)
from sparse_rcnn.ops.detections import Detections

NAMES = ["AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl"]


def ground_truth(*annotations, images=(1, 2)):
    return {
        "images": [{"id": image, "height": 200, "width": 200} for image in images],
        "annotations": [
            {
                "id": number,
                "image_id": image,
                "category_id": category,
                "bbox": bbox,
                "area": bbox[2] * bbox[3],
                **more,
            }
            for number, (image, category, bbox, more) in enumerate(annotations)
        ],
        "categories": [{"id": 4, "name": "cat"}, {"id": 9, "name": "dog"}],
    }


def result(image, category, bbox, score):
    return {"image_id": image, "category_id": category, "bbox": bbox, "score": score}


def perfect(truth):
    return [
        result(entry["image_id"], entry["category_id"], entry["bbox"], 0.9)
        for entry in truth["annotations"]
        if not entry.get("iscrowd")
    ]


def test_results():
    boxes = torch.tensor([[[1.5, 2, 4, 8], [0, 0, 1, 1]], [[5, 5, 7, 9], [1, 1, 2, 2]]])
    detections = Detections(boxes, torch.tensor([[0.5, 0.25], [1, 0]]), torch.tensor([[1, 0], [0, 1]]))
    expected = [
        result(30, 9, [1.5, 2.0, 2.5, 6.0], 0.5),
        result(30, 4, [0.0, 0.0, 1.0, 1.0], 0.25),
        result(7, 4, [5.0, 5.0, 2.0, 4.0], 1.0),
        result(7, 9, [1.0, 1.0, 1.0, 1.0], 0.0),
    ]
    assert coco_results(detections, [30, 7], [4, 9]) == expected
    assert coco_results(detections, torch.tensor([30, 7]), [4, 9]) == expected
    empty = Detections(torch.zeros(2, 0, 4), torch.zeros(2, 0), torch.zeros(2, 0, dtype=torch.int64))
    assert coco_results(empty, [1, 2], [4]) == []


@pytest.mark.parametrize(
    ("shapes", "image_ids", "message"),
    [
        (((2, 3, 4), (2, 3), (2, 2)), [1, 2], "expected boxes"),
        (((2, 3, 5), (2, 3), (2, 3)), [1, 2], "expected boxes"),
        (((3, 4), (3,), (3,)), [1, 2, 3], "expected boxes"),
        (((2, 3, 4), (2, 3), (2, 3)), [1], "detections of 2 images came with 1 image ids"),
    ],
)
def test_results_of_wrong_shape(shapes, image_ids, message):
    boxes, scores, labels = shapes
    detections = Detections(torch.zeros(boxes), torch.zeros(scores), torch.zeros(labels, dtype=torch.int64))
    with pytest.raises(ValueError, match=message):
        coco_results(detections, image_ids, [4])


@pytest.mark.parametrize("label", [-1, 2])
def test_results_with_unknown_labels(label):
    detections = Detections(torch.zeros(1, 1, 4), torch.zeros(1, 1), torch.tensor([[label]]))
    with pytest.raises(ValueError, match=r"must be in 0\.\.1 for 2 category ids"):
        coco_results(detections, [1], [4, 9])


def test_perfect_detections():
    truth = ground_truth(
        (1, 4, [10, 10, 20, 20], {}), (1, 9, [50, 50, 50, 50], {}), (2, 4, [0, 0, 120, 120], {"iscrowd": 0})
    )
    metrics = evaluate_coco(truth, perfect(truth))
    assert list(metrics) == [*NAMES, "AP/cat", "AP/dog"]
    assert metrics == pytest.approx(dict.fromkeys(metrics, 1.0))


def test_hand_computed_precision():
    # The first of two detections finds one of two cats, with an IoU of 0.81. It is right at the seven
    # thresholds up to 0.80. Precision is 1 up to recall 0.5, which is 51 of 101 points.
    truth = ground_truth((1, 4, [10, 10, 100, 100], {}), (2, 4, [10, 10, 100, 100], {}))
    results = [result(1, 4, [10, 10, 81, 100], 0.9), result(2, 4, [150, 150, 20, 20], 0.5)]
    metrics = evaluate_coco(truth, results)
    assert metrics["AP50"] == metrics["AP75"] == pytest.approx(51 / 101)
    assert metrics["AP"] == metrics["AP/cat"] == metrics["APl"] == pytest.approx(0.7 * 51 / 101)
    assert metrics["AR100"] == metrics["AR1"] == pytest.approx(0.5 * 0.7)
    # A worse first detection halves the precision.
    results[1]["score"] = 0.95
    assert evaluate_coco(truth, results)["AP50"] == pytest.approx(0.5 * 51 / 101)


def test_absent_sizes_and_classes_are_nan():
    truth = ground_truth((1, 4, [10, 10, 20, 20], {}))
    metrics = evaluate_coco(truth, perfect(truth))
    assert {name for name, value in metrics.items() if math.isnan(value)} == {
        "APm",
        "APl",
        "ARm",
        "ARl",
        "AP/dog",
    }


def test_no_results_give_zeros():
    metrics = evaluate_coco(ground_truth((1, 4, [10, 10, 20, 20], {}), (2, 9, [1, 1, 50, 50], {})), [])
    assert {name: value for name, value in metrics.items() if not math.isnan(value)} == dict.fromkeys(
        set(metrics) - {"APl", "ARl"}, 0.0
    )


def test_no_ground_truth_gives_nan():
    metrics = evaluate_coco(ground_truth(), [result(1, 4, [1, 1, 5, 5], 0.5)])
    assert all(math.isnan(value) for value in metrics.values())


def test_images_without_detections_count():
    truth = ground_truth(*[(image, 4, [10, 10, 20, 20], {}) for image in (1, 2, 3, 4)], images=(1, 2, 3, 4))
    assert evaluate_coco(truth, perfect(truth)[:1])["AR100"] == pytest.approx(0.25)


def test_crowds_are_ignored():
    truth = ground_truth((1, 4, [10, 10, 20, 20], {}), (1, 4, [100, 100, 90, 90], {"iscrowd": 1}))
    inside = [result(1, 4, [110 + shift, 110, 20, 20], 0.99) for shift in (0, 5, 10)]
    assert evaluate_coco(truth, perfect(truth) + inside)["AP"] == pytest.approx(1.0)
    outside = [result(1, 4, [60, 60, 20, 20], 0.99)]
    assert evaluate_coco(truth, perfect(truth) + outside)["AP"] == pytest.approx(0.5)


def test_area_field_decides_the_size():
    truth = ground_truth((1, 4, [10, 10, 50, 50], {"area": 500.0}))
    metrics = evaluate_coco(truth, perfect(truth))
    assert metrics["APs"] == pytest.approx(1.0)
    assert math.isnan(metrics["APm"])


def test_annotation_id_zero_is_found():
    truth = ground_truth((1, 4, [10, 10, 20, 20], {}))
    assert truth["annotations"][0]["id"] == 0  # pycocotools does not count a match with id 0
    assert evaluate_coco(truth, perfect(truth))["AP"] == pytest.approx(1.0)


def test_inputs_are_not_written_to(capsys):
    truth = ground_truth((1, 4, [10, 10, 20, 20], {}))
    results = perfect(truth)
    before = copy.deepcopy((truth, results))
    evaluate_coco(truth, results)
    assert (truth, results) == before
    assert capsys.readouterr().out == ""


def test_classes_of_equal_name():
    truth = ground_truth((1, 4, [10, 10, 20, 20], {}))
    truth["categories"][1]["name"] = "cat"
    metrics = evaluate_coco(truth, perfect(truth))
    assert metrics["AP/cat (4)"] == pytest.approx(1.0)
    assert math.isnan(metrics["AP/cat (9)"])


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"image_id": 5}, "result 1 has image_id 5, which is not in the data set"),
        ({"category_id": 5}, "result 1 has category_id 5, which is not in the data set"),
        ({"score": math.nan}, "result 1 needs .* finite"),
        ({"bbox": [1, 2, math.inf, 4]}, "result 1 needs .* finite"),
        ({"bbox": [1, 2, 3]}, "result 1 needs a bbox of four"),
    ],
)
def test_wrong_results(changed, message):
    good = result(1, 4, [10, 10, 20, 20], 0.5)
    with pytest.raises(ValueError, match=message):
        evaluate_coco(ground_truth(), [good, {**good, **changed}])


def test_results_with_missing_fields():
    with pytest.raises(ValueError, match=r"result 0 has no \['score'\]"):
        evaluate_coco(ground_truth(), [{"image_id": 1, "category_id": 4, "bbox": [1, 2, 3, 4]}])
    with pytest.raises(ValueError, match="the ground truth has no 'categories'"):
        evaluate_coco({"images": [], "annotations": []}, [])


def noisy_results(data):
    """Detections of all kinds: shifted, wrongly labelled, doubled, on crowds, and nowhere."""
    torch.manual_seed(0)
    results = []
    for entry in data.coco_ground_truth()["annotations"]:
        shift = (torch.randn(4) * 0.08 * max(entry["bbox"][2:])).tolist()
        bbox = [value + part for value, part in zip(entry["bbox"], shift, strict=True)]
        bbox[2:] = [max(side, 1.0) for side in bbox[2:]]
        wrong = torch.rand(()) < 0.2
        category = (
            data.category_ids[int(torch.randint(len(data.category_ids), ()))]
            if wrong
            else entry["category_id"]
        )
        results.append(result(entry["image_id"], category, bbox, float(torch.rand(()))))
        if torch.rand(()) < 0.3:
            results.append(result(entry["image_id"], category, entry["bbox"], float(torch.rand(()))))
    return results


@pytest.mark.slow
def test_equal_to_pycocotools_by_hand_on_coco_mini(shared_dir):
    images, file = find_coco(shared_dir / "data" / "coco_mini", "val")
    data = CocoDetection(images, file)
    results = noisy_results(data)
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        truth = COCO(str(file))
        evaluation = COCOeval(truth, truth.loadRes(copy.deepcopy(results)), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    metrics = evaluate_coco(data, results)
    assert [metrics[name] for name in NAMES] == evaluation.stats.tolist()
    analysis = analyse(data, results)
    assert [analysis.ap, analysis.ap50, analysis.ap75] == pytest.approx(evaluation.stats[:3], abs=1e-12)
    of_class = [metrics[f"AP/{name}"] for name in data.class_names]
    assert analysis.classes.ap == pytest.approx(of_class, abs=1e-12, nan_ok=True)
    assert 0.1 < metrics["AP"] < 0.9
    assert format_metrics(metrics) == "\n".join(printed.getvalue().splitlines()[-12:])


def test_perfect_detections_on_real_data(shared_dir):
    for data in (
        CocoDetection(*find_coco(shared_dir / "data" / "coco_mini", "val")),
        VocDetection(shared_dir / "data" / "bccd", "val"),
    ):
        metrics = evaluate_coco(data, perfect(data.coco_ground_truth()))
        assert metrics["AP"] == pytest.approx(1.0)


def test_table_of_absent_sizes():
    metrics = evaluate_coco(ground_truth(), [])
    lines = format_metrics(metrics).splitlines()
    assert len(lines) == 12
    assert lines[0] == " Average Precision  (AP) @[ IoU=0.50:0.95 | area=   all | maxDets=100 ] = nan"


@pytest.mark.parametrize("max_detections", [3, pytest.param(300, marks=pytest.mark.slow)])
def test_another_number_of_detections_is_what_pycocotools_counts_with_it(max_detections):
    generator = torch.Generator().manual_seed(0)
    corners = torch.rand(240, 2, generator=generator) * 180
    boxes = torch.cat([corners, torch.full((240, 2), 20.0)], dim=1)
    truth = ground_truth(*[(1, 4, box, {}) for box in boxes.tolist()])
    moved = boxes + torch.rand(240, 4, generator=generator) * 4
    scores = torch.rand(240, generator=generator).tolist()
    results = [result(1, 4, box, score) for box, score in zip(moved.tolist(), scores, strict=True)]
    metrics = evaluate_coco(truth, results, max_detections)

    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = {"info": {}, **copy.deepcopy(truth)}
        for number, entry in enumerate(coco.dataset["annotations"], start=1):
            entry.update(id=number, iscrowd=0)
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(copy.deepcopy(results)), "bbox")
        evaluation.params.maxDets = sorted([1, 10, max_detections])
        evaluation.evaluate()
        evaluation.accumulate()
    place = evaluation.params.maxDets.index(max_detections)
    precision, recall = (evaluation.eval[key][..., 0, place] for key in ("precision", "recall"))
    assert metrics["AP"] == precision[precision > -1].mean() != evaluate_coco(truth, results)["AP"]
    assert metrics[f"AR{max_detections}"] == recall[recall > -1].mean()
    assert metrics["AP/cat"] == metrics["AP"]
    assert f"maxDets={max_detections:>3d} ] = {metrics['AP']:0.3f}" in format_metrics(metrics, max_detections)
    assert "AR100" not in metrics


def test_chosen_images_and_classes_are_as_if_there_were_no_others():
    boxes = [(1, 4, [10, 10, 30, 30], {}), (1, 9, [50, 50, 30, 30], {}), (2, 4, [10, 90, 40, 40], {})]
    truth = ground_truth(*boxes)
    results = [*perfect(truth)[:2], result(2, 4, [100, 10, 20, 20], 0.95)]
    assert evaluate_coco(truth, results)["AP/cat"] < 0.9
    first = evaluate_coco(truth, results, image_ids=[1])
    assert (first["AP"], first["AP/cat"], first["AP/dog"]) == pytest.approx((1, 1, 1))
    dogs = evaluate_coco(truth, results, category_ids=[9])
    assert dogs["AP"] == pytest.approx(1)
    assert "AP/cat" not in dogs
    with pytest.raises(ValueError, match=r"image_ids must be ids of the data set, got \[7\]"):
        evaluate_coco(truth, results, image_ids=[1, 7])
    with pytest.raises(ValueError, match="category_ids must be ids of the data set, got none"):
        evaluate_coco(truth, results, category_ids=[])
    with pytest.raises(ValueError, match="max_detections must be at least 1, got 0"):
        evaluate_coco(truth, results, 0)


def test_labels_without_a_category_are_left_out():
    boxes = torch.tensor([[[0.0, 0, 4, 8], [0, 0, 1, 1]]])
    detections = Detections(boxes, torch.tensor([[0.5, 0.25]]), torch.tensor([[1, 0]]))
    assert coco_results(detections, [3], [None, 9]) == [result(3, 9, [0.0, 0.0, 4.0, 8.0], 0.5)]


@pytest.mark.parametrize(("detections", "digits", "most"), [(0, None, 100), (900, 1, 100), (900, None, 300)])
def test_the_fast_evaluator_gives_the_same(detections, digits, most):
    pytest.importorskip("faster_coco_eval")
    truth, results = random_detections(1, 6, 3, 120, detections, crowd_share=0.1, score_digits=digits)
    truth["categories"].append({"id": 8, "name": "absent"})
    expected = evaluate_coco(truth, results, most)
    found = evaluate_coco(truth, results, most, evaluator="faster_coco_eval")
    assert list(found) == list(expected)
    assert found == pytest.approx(expected, abs=1e-9, nan_ok=True)


def test_an_evaluator_that_there_is_not():
    with pytest.raises(ValueError, match="must be one of pycocotools, faster_coco_eval, got 'fast'"):
        evaluate_coco(ground_truth(), [], evaluator="fast")


def test_sizes_with_many_detections_are_those_of_pycocotools():
    """Its own summary looks for 100 detections: with another number, APs, APm, APl and ARs would be -1."""
    truth, results = random_detections(2, 2, 1, 100, 500)
    metrics = evaluate_coco(truth, results, 300)
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = {"info": {}, **copy.deepcopy(truth)}
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(copy.deepcopy(results)), "bbox")
        evaluation.params.maxDets = [1, 10, 300]
        evaluation.evaluate()
        evaluation.accumulate()
    for area, letter in enumerate("sml", start=1):
        for name, key in (("AP", "precision"), ("AR", "recall")):
            values = evaluation.eval[key][..., area, 2]
            assert metrics[name + letter] == values[values > -1].mean()
            assert 0 < metrics[name + letter] < 1
    for most, place in ((1, 0), (10, 1)):
        values = evaluation.eval["recall"][..., 0, place]
        assert metrics[f"AR{most}"] == values[values > -1].mean()
    assert metrics["AP"] != evaluate_coco(truth, results)["AP"]
