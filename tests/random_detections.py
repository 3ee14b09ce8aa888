"""Ground truth and detections in COCO's format, drawn at random: right, shifted, confused and wrong ones."""

import numpy as np


def random_detections(
    seed=0, images=10, classes=4, objects=60, detections=200, crowd_share=0.0, score_digits=None, side=300
):
    """A dict in COCO's format and a list of results. With few `score_digits`, some scores are equal."""
    random = np.random.default_rng(seed)
    owner, label = random.integers(images, size=objects), random.integers(classes, size=objects)
    boxes = np.concatenate(
        [random.uniform(0, side, (objects, 2)), np.exp(random.uniform(2, 5, (objects, 2)))], 1
    )
    crowd = random.random(objects) < crowd_share
    annotations = [
        {
            "id": number + 1,
            "image_id": 7 * int(owner[number]) + 3,
            "category_id": 2 * int(label[number]) + 1,
            "bbox": boxes[number].tolist(),
            "area": float(boxes[number, 2] * boxes[number, 3]),
            "iscrowd": int(crowd[number]),
        }
        for number in range(objects)
    ]
    results = []
    for _ in range(detections):
        kind = random.integers(5) if objects else 4
        source = int(random.integers(objects)) if objects else 0
        if kind == 4:  # anywhere
            box = [*random.uniform(0, side, 2), *np.exp(random.uniform(2, 5, 2))]
            image, category = int(random.integers(images)), int(random.integers(classes))
        else:
            size = boxes[source, 2:]
            spread = (0.02, 0.1, 0.2, 0.4)[kind]
            box = [*(boxes[source, :2] + random.normal(0, spread, 2) * size)]
            box += [*(size * np.exp(random.normal(0, spread, 2)))]
            image = int(owner[source])
            category = int(label[source] if random.random() < 0.8 else random.integers(classes))
        score = random.random()
        results.append(
            {
                "image_id": 7 * image + 3,
                "category_id": 2 * category + 1,
                "bbox": [float(number) for number in box],
                "score": score if score_digits is None else round(score, score_digits),
            }
        )
    truth = {
        "images": [{"id": 7 * image + 3, "height": 900, "width": 900} for image in range(images)],
        "annotations": annotations,
        "categories": [{"id": 2 * label + 1, "name": f"class {label}"} for label in range(classes)],
    }
    return truth, results
