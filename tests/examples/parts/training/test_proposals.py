"""What is said of images with more objects than proposals."""

import json
from pathlib import Path

import pytest
from parts.training.proposals import remark_on_proposals
from PIL import Image

from sparse_rcnn.data import CocoDetection


@pytest.fixture
def dataset(tmp_path: Path) -> CocoDetection:
    """Images a, b and c with 2, 5 and 9 objects, and a crowd region in c, which is none."""
    images, annotations = [], []
    for number, (name, count) in enumerate((("a", 2), ("b", 5), ("c", 9)), start=1):
        Image.new("RGB", (40, 30)).save(tmp_path / f"{name}.jpg")
        images.append({"id": number, "file_name": f"{name}.jpg", "height": 30, "width": 40})
        for index in range(count + (name == "c")):
            box = {"bbox": [index, 2, 10, 10], "area": 100, "iscrowd": int(index == 9)}
            annotations.append({"id": len(annotations) + 1, "image_id": number, "category_id": 1, **box})
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "cell"}]}
    file = tmp_path / "instances.json"
    file.write_text(json.dumps(content))
    return CocoDetection(tmp_path, file)


def test_images_with_more_objects_than_proposals_are_counted(dataset: CocoDetection) -> None:
    assert remark_on_proposals(dataset, 9) == ""
    said = remark_on_proposals(dataset, 4)
    assert said.startswith("2 of 3 training images have more objects than the 4 proposals, up to 9 (")
    assert "c.jpg). In each step with such an image, only 4 of its objects are matched: 6 of 16" in said
    assert said.endswith("--num-proposals 9 is enough for all")
