"""Writes evaluation.json: scenes, and the figures of tidecv, lvis and CrowdHuman's evaluation for them.

    pip install tidecv lvis opencv-python-headless seaborn pandas
    git clone https://github.com/Purkialo/CrowdDet
    PYTHONPATH=CrowdDet/lib python tests/reference/evaluation.py

The packages are old and pull much: OpenCV, pandas and seaborn. So the tests compare with what they said.
"""

import json
import sys
import tempfile
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
TIDE_NAMES = ("Cls", "Loc", "Both", "Dupe", "Bkg", "Miss")


def tide_figures(truth, results, iou=0.5):
    """AP, the gain of each repair and the number of errors of each kind, by tidecv."""
    from tidecv import TIDE, Data

    annotated, found = Data("truth"), Data("found")
    for entry in truth["images"]:
        annotated.add_image(entry["id"], str(entry["id"]))
    for entry in truth["annotations"]:
        add = annotated.add_ignore_region if entry["iscrowd"] else annotated.add_ground_truth
        add(entry["image_id"], entry["category_id"], entry["bbox"])
    for entry in results:
        found.add_detection(entry["image_id"], entry["category_id"], entry["score"], entry["bbox"])
    tide = TIDE(pos_threshold=iou)
    run = tide.evaluate(annotated, found, mode=TIDE.BOX)
    gains = tide.get_main_errors()["found"]
    counts = {error.short_name: number for error, number in run.count_errors().items()}
    return {
        "ap": run.ap / 100,
        "gains": [gains[name] / 100 for name in TIDE_NAMES],
        "counts": [counts[name] for name in TIDE_NAMES],
    }


def lvis_figures(truth, results, most=300):
    """AP of all classes and by frequency, as lvis says."""
    vars(np)["float"] = float  # lvis uses the old name
    from lvis import LVIS, LVISEval, LVISResults

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "truth.json")
        file.write_text(json.dumps(truth))
        annotated = LVIS(str(file))
    run = LVISEval(annotated, LVISResults(annotated, [dict(entry) for entry in results], most), "bbox")
    run.run()
    return {name: float(value) for name, value in run.get_results().items() if name.startswith("AP")}


def crowdhuman_figures(truth, results):
    """AP, mMR and JI, as CrowdDet's copy of CrowdHuman's evaluation says."""
    from evaluate.APMRToolkits.database import Database

    by_image = [
        (
            image,
            [entry for entry in truth["annotations"] if entry["image_id"] == image["id"]],
            [entry for entry in results if entry["image_id"] == image["id"]],
        )
        for image in truth["images"]
    ]
    with tempfile.TemporaryDirectory() as folder:
        lines: dict[str, list[str]] = {"gtboxes": [], "dtboxes": []}
        for image, objects, found in by_image:
            record = {"ID": str(image["id"]), "height": image["height"], "width": image["width"]}
            persons = [
                {"tag": "person", "fbox": e["bbox"], "hbox": e["bbox"], "extra": {"ignore": e["iscrowd"]}}
                for e in objects
            ]
            boxes = [{"box": e["bbox"], "score": e["score"]} for e in found]
            lines["gtboxes"].append(json.dumps({**record, "gtboxes": persons}))
            lines["dtboxes"].append(json.dumps({**record, "dtboxes": boxes}))
        for name, records in lines.items():
            Path(folder, name).write_text("\n".join(records))
        database = Database(f"{folder}/gtboxes", f"{folder}/dtboxes", "box", None, 0)
    database.compare()
    jaccard = [
        np.mean(
            [ratio for ratio in (image_ratio(*entry, 1e-1 * step) for entry in by_image) if ratio is not None]
        )
        for step in range(10)
    ]
    return {"AP": database.eval_AP()[0], "mMR": database.eval_MR()[0], "JI": max(jaccard)}


def image_ratio(image, objects, found, score):
    """The Jaccard index of an image, with CrowdDet's matching; None if it has nothing."""
    from evaluate.JIToolkits.JI_tools import compute_matching, get_ignores

    def clipped(entries):
        x, y, width, height = np.array([entry["bbox"] for entry in entries]).reshape(-1, 4).T
        right, lower = image["width"], image["height"]
        left, top = np.minimum(np.maximum(x, 0), right - 1), np.minimum(np.maximum(y, 0), lower - 1)
        ends = np.maximum(np.minimum(x + width, right), 0), np.maximum(np.minimum(y + height, lower), 0)
        return np.stack([left, top, *ends], axis=1)

    persons = clipped([entry for entry in objects if not entry["iscrowd"]])
    regions = clipped([entry for entry in objects if entry["iscrowd"]])
    boxes = clipped([entry for entry in found if entry["score"] > score])
    pairs = compute_matching(boxes, persons, 0.5)
    alone = np.delete(boxes, [one for one, _ in pairs], axis=0)
    missed = np.delete(persons, [other for _, other in pairs], axis=0)
    n = len(boxes) - get_ignores(alone, regions, 0.5)
    m = len(persons) - get_ignores(missed, regions, 0.5)
    return len(pairs) / (m + n - len(pairs) + 1e-6) if n or m else None


def lvis_scene(truth, results, seed):
    """A ground truth with frequencies, absent classes, and classes that are not fully annotated."""
    random = np.random.default_rng(seed)
    ids = [category["id"] for category in truth["categories"]]
    for number, category in enumerate(truth["categories"]):
        category["frequency"] = "rcf"[number % 3]
    for image in truth["images"]:
        image["neg_category_ids"] = random.choice(ids, 3, replace=False).tolist()
        image["not_exhaustive_category_ids"] = random.choice(ids, 2, replace=False).tolist()
    for entry in truth["annotations"]:
        del entry["iscrowd"]
    return truth, results


def rounded(scene):
    """Short numbers. The areas are those of the boxes again."""
    for entry in (*scene[0]["annotations"], *scene[1]):
        entry["bbox"] = [round(number, 1) for number in entry["bbox"]]
    for entry in scene[0]["annotations"]:
        entry["area"] = entry["bbox"][2] * entry["bbox"][3]
    for entry in scene[1]:
        entry["score"] = round(entry["score"], 6)
    return scene


def packed(truth, results):
    """Boxes as rows: image, class, x, y, width, height, and crowd flag or score."""

    def rows(entries, last):
        return [
            [entry["image_id"], entry["category_id"], *entry["bbox"], entry.get(last, 0)] for entry in entries
        ]

    return {
        "images": truth["images"],
        "categories": truth["categories"],
        "truth": rows(truth["annotations"], "iscrowd"),
        "found": rows(results, "score"),
    }


def unpacked(scene):
    """The dict in COCO's format, and the results."""

    def entries(rows, last):
        return [
            {"id": number, "image_id": row[0], "category_id": row[1], "bbox": row[2:6], last: row[6]}
            for number, row in enumerate(rows, 1)
        ]

    annotations = [
        {**entry, "area": entry["bbox"][2] * entry["bbox"][3]} for entry in entries(scene["truth"], "iscrowd")
    ]
    truth = {"images": scene["images"], "categories": scene["categories"], "annotations": annotations}
    return truth, entries(scene["found"], "score")


if __name__ == "__main__":
    sys.path.insert(0, str(HERE.parent))
    from random_detections import random_detections

    tide_scenes = [
        rounded(random_detections(seed, 12, 4, 60, 250, crowd_share=share))
        for seed, share in ((0, 0), (1, 0.15))
    ]
    federated = lvis_scene(*rounded(random_detections(2, 12, 9, 80, 400)), 2)
    crowds = [
        rounded(random_detections(seed, 6, 1, 70, number, crowd_share=0.15, side=250))
        for seed, number in ((3, 120), (4, 300))
    ]
    for truth, _ in crowds:
        for image in truth["images"]:
            image.update(height=260, width=280)  # boxes leave it
    written = {
        "tide": [{**packed(*scene), "figures": tide_figures(*scene)} for scene in tide_scenes],
        "crowdhuman": [{**packed(*scene), "figures": crowdhuman_figures(*scene)} for scene in crowds],
        "lvis": {
            **packed(*federated),
            "figures": {most: lvis_figures(*federated, most) for most in (300, 20)},
        },
    }
    (HERE / "evaluation.json").write_text(json.dumps(written, separators=(",", ":")) + "\n")
