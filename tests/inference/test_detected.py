"""The result of a detector: indexing, filtering, other formats, and pictures."""

import io
import json
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import torch
from PIL import Image, ImageFont

from sparse_rcnn.data import UnreadableImageError
from sparse_rcnn.inference import Detected, Found, draw_boxes
from sparse_rcnn.inference.caption_font import _font_of, caption_font
from sparse_rcnn.inference.photo import Photo

NAMES = ["cat", "dog", "bird"]
BOXES = torch.tensor([[10.0, 20, 60, 70], [0, 0, 30, 40.126], [5, 5, 9, 9]])


@pytest.fixture
def found():
    photo = Photo("photo.jpg", (100, 120), torch.full((3, 100, 120), 200, dtype=torch.uint8))
    return Detected(
        BOXES, torch.tensor([0.91234, 0.5, 0.25]), torch.tensor([2, 0, 2]), NAMES, photo, [7, 8, 3]
    )


def test_is_a_sequence_of_objects(found):
    assert len(found) == 3
    assert found.names == ["bird", "cat", "bird"]
    assert found.image_size == (100, 120)
    assert found[1] == Found((0, 0, 30, pytest.approx(40.126)), 0.5, 0, "cat")
    assert found[-1].name == found[np.int64(2)].name == found[found.scores.argmin()].name == "bird"
    with pytest.raises(ValueError, match=r"got 'cat': see filter\(\)"):
        found["cat"]
    assert [one.label for one in found] == [2, 0, 2]
    with pytest.raises(IndexError):
        found[3]


@pytest.mark.parametrize(
    ("index", "kept"),
    [
        (slice(1, None), [1, 2]),
        (torch.tensor([True, False, True]), [0, 2]),
        (np.array([False, False, True]), [2]),
        ([True, True, False], [0, 1]),
        ([2, 0], [2, 0]),
        ([], []),
    ],
)
def test_parts(found, index, kept):
    part = found[index]
    assert torch.equal(part.boxes, BOXES[kept].reshape(-1, 4))
    assert part.labels.tolist() == [[2, 0, 2][i] for i in kept]
    assert len(part.scores) == len(part) == len(kept)


def test_filter(found):
    assert found.filter(["bird"]).scores.tolist() == pytest.approx([0.91234, 0.25])
    assert found.filter([0, "bird"], threshold=0.5).names == ["bird", "cat"]
    assert len(found.filter([])) == 0
    for classes, message in (
        (["cow"], "no class 'cow'; the classes are cat, dog, bird"),
        (["Bird"], r"no class 'Bird' \(did you mean 'bird'\?\)"),
        ([3], "no class 3"),
        ("cat", r"must be a list of names or labels, got 'cat': give \['cat'\]"),
    ):
        with pytest.raises(ValueError, match=message):
            found.filter(classes)
    for threshold in (40, -0.1, float("nan")):  # percent would leave nothing
        with pytest.raises(ValueError, match=r"threshold must be in 0\.\.1, got"):
            found.filter(threshold=threshold)


def test_as_plain_data(found, tmp_path):
    found.save_json(tmp_path / "found.json")
    assert json.loads((tmp_path / "found.json").read_text()) == {
        "image": "photo.jpg",
        "height": 100,
        "width": 120,
        "detections": [
            {"box_xyxy": [10, 20, 60, 70], "score": 0.9123, "label": 2, "class": "bird"},
            {"box_xyxy": [0, 0, 30, 40.13], "score": 0.5, "label": 0, "class": "cat"},
            {"box_xyxy": [5, 5, 9, 9], "score": 0.25, "label": 2, "class": "bird"},
        ],
    }


def test_as_coco_results(found):
    first, second, third = found.to_coco(42)
    assert first["image_id"] == 42
    assert first["bbox"] == [10, 20, 50, 50]
    assert [one["category_id"] for one in (first, second, third)] == [3, 7, 3]
    assert [one["category_id"] for one in found.to_coco(42, [1, 2, 5])] == [5, 1, 5]
    with pytest.raises(ValueError, match="one id for each of 3 classes, got 4"):
        found.to_coco(42, [1, 2, 5, 6])
    found.category_ids = None
    with pytest.raises(ValueError, match="has no category ids: give category_ids, one for each of 3"):
        found.to_coco(42)


def test_as_supervision(found):
    pytest.importorskip("supervision")
    other = found.to_supervision()
    assert np.array_equal(other.xyxy, BOXES.numpy())
    assert other.class_id.tolist() == [2, 0, 2]
    assert other.confidence == pytest.approx([0.91234, 0.5, 0.25])
    assert list(other.data["class_name"]) == ["bird", "cat", "bird"]
    assert len(found[:0].to_supervision()) == 0


def test_repr_names_the_objects(found):
    assert repr(found[:2]) == (
        "Detected(2 objects in photo.jpg, 100 x 120: bird 0.91 (10, 20, 60, 70), cat 0.50 (0, 0, 30, 40))"
    )
    assert repr(found[:0]) == "Detected(0 objects in photo.jpg, 100 x 120)"
    assert repr(found[[0] * 12]).endswith("and 4 more)")


def test_notebooks_get_the_picture(found):
    with Image.open(io.BytesIO(found._repr_png_())) as picture:
        assert picture.size == (480, 400)
        assert picture.tobytes() == found.draw().tobytes()


def test_photos_of_folders_are_read_again_to_be_drawn(detector, photo, tmp_path):
    copy = tmp_path / "photo.png"
    copy.write_bytes(photo.read_bytes())
    (found,) = detector(tmp_path, threshold=0.0)
    assert found.photo.image is None
    assert found.draw().tobytes() == detector(photo, threshold=0.0).draw().tobytes()
    Image.new("RGB", (40, 30)).save(copy)
    with pytest.raises(UnreadableImageError, match=r"photo\.png: the image is 30 x 40 .* says 90 x 130"):
        found.draw()


def captions_of(monkeypatch, boxes, scores, size=(600, 800), names=("cat",)):
    """Rectangles of captions, in the order in which they are drawn: the last is on top."""
    from PIL import ImageDraw

    drawn = []
    rectangle = ImageDraw.ImageDraw.rectangle

    def record(self, place, fill=None, **options):
        if fill is not None:
            drawn.append(place)
        return rectangle(self, place, fill=fill, **options)

    monkeypatch.setattr(ImageDraw.ImageDraw, "rectangle", record)
    labels = torch.zeros(len(boxes), dtype=torch.int64)
    draw_boxes(
        torch.zeros(3, *size, dtype=torch.uint8), torch.tensor(boxes), labels, names, torch.tensor(scores)
    )
    return drawn


def test_captions_do_not_cover_each_other_where_there_is_room(monkeypatch):
    boxes = [[100.0 + i, 100 + i, 400 + i, 400 + i] for i in range(12)]
    drawn = captions_of(monkeypatch, boxes, [0.9 - i / 20 for i in range(12)])
    assert len(drawn) == 12
    for i, (x1, y1, x2, y2) in enumerate(drawn):
        assert 0 <= x1 < x2 < 800
        assert 0 <= y1 < y2 < 600
        for other in drawn[:i]:
            assert x2 < other[0] or other[2] < x1 or y2 < other[1] or other[3] < y1
    best = drawn[-1]  # the highest score: on top, and just above its box
    assert (best[0], best[3]) == (100, 100)


def test_captions_fit_into_long_images(monkeypatch):
    ((_, top, _, bottom),) = captions_of(monkeypatch, [[900.0, 40, 960, 80]], [0.9], size=(100, 2000))
    assert bottom - top < 25


def test_frames_show_on_any_background():
    for level in (0, 128, 255):
        image = torch.full((3, 500, 500), level, dtype=torch.uint8)
        for label in range(7):
            picture = np.asarray(
                draw_boxes(image, torch.tensor([[100.0, 100, 300, 300]]), torch.tensor([label]), ["x"] * 7)
            )
            column = picture[295:306, 200].astype(int).sum(-1)  # across the lower side
            assert column.max() - column.min() > 150, (level, label)


def test_the_highest_score_is_on_top():
    image = torch.zeros(3, 500, 500, dtype=torch.uint8)
    box = torch.tensor([[100.0, 100, 300, 300]]).expand(2, 4)
    for scores, color in (([0.9, 0.1], (230, 159, 0)), ([0.1, 0.9], (86, 180, 233))):
        picture = draw_boxes(image, box, torch.tensor([0, 1]), ["x", "y"], torch.tensor(scores))
        assert picture.getpixel((200, 300)) == color


def test_captions_have_the_letters_of_class_names(monkeypatch):
    file = str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf")  # of any system
    monkeypatch.setattr("sparse_rcnn.inference.caption_font.FONTS", ("absent.ttf", file))
    _font_of.cache_clear()
    other = ImageFont.truetype(file, 20)
    assert caption_font(["cat", "traffic light 0.9"], 20).getname() == ImageFont.load_default(20).getname()
    for name in ("Waschbär", "енот", "γάτα"):
        font = caption_font(["cat", name], 20)
        blank = bytes(font.getmask("\U0010ffff"))
        assert all(bytes(font.getmask(letter)) != blank for letter in name)
    assert caption_font(["Waschbär"], 20).getname() == other.getname()
    image, box, label = torch.zeros(3, 480, 640, dtype=torch.uint8), torch.tensor([[9.0, 99, 500, 400]]), [0]
    first, second = (draw_boxes(image, box, torch.tensor(label), [name]) for name in ("енот", "юный"))
    assert first.tobytes() != second.tobytes()  # empty boxes would be alike


def test_captions_of_many_boxes_leave_most_of_the_picture_free(monkeypatch):
    corners = torch.rand(500, 2, generator=torch.Generator().manual_seed(0)) * 380
    boxes = torch.cat([corners, corners + 5], dim=1).tolist()
    drawn = captions_of(monkeypatch, boxes, [i / 500 for i in range(500)], size=(400, 400))
    covered = sum((x2 - x1) * (y2 - y1) for x1, y1, x2, y2 in drawn)
    assert 0.2 < covered / 400**2 <= 0.25
    x1, _, _, bottom = drawn[-1]  # of the highest score, just above its box
    assert (x1, bottom) == pytest.approx(boxes[-1][:2])
