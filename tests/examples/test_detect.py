"""detect.py: how it finds images and names pictures."""

import json
import os
from argparse import Namespace

import pytest
from detect import detect_all, picture_for
from inference_cases import OPTIONS
from PIL import Image
from small_model import build_small_model

from sparse_rcnn.inference import Detector, find_images
from sparse_rcnn.nn import EndToEndDetector


def test_pictures_overwrite_neither_each_other_nor_an_image(tmp_path):
    image = tmp_path / "photo.png"
    taken = {image.resolve()}
    names = [picture_for(path, tmp_path, taken).name for path in (image, tmp_path / "a" / "photo.jpg")]
    assert names == ["photo_1.png", "photo_2.png"]
    long = picture_for(tmp_path / f"{'ü' * 125}.jpg", tmp_path, taken)
    assert len(os.fsencode(long.name)) <= 210
    long.write_bytes(b"")


def test_all_kinds_of_names_end_in_pictures_and_json(tmp_path, monkeypatch, capsys):
    names = ["new\nline.png", "\x1b[31mred.png", os.fsdecode(b"bad\xff.png"), "n" * 251 + ".png"]
    for name in names:
        Image.new("RGB", (40, 30)).save(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    paths = find_images(".")
    assert {path.name for path in paths} == {*names}
    detector = Detector(
        EndToEndDetector(build_small_model().eval(), 3), ["a\nb", "\udcff", "日" * 300], 32, 64
    )
    arguments = Namespace(**{**OPTIONS, "max_pixels": 10**6})
    output = tmp_path / "found"
    output.mkdir()
    assert detect_all(detector, paths, arguments, output) == (len(names), 0)
    records = json.loads((output / "detections.json").read_text())
    assert [*records] == [str(path) for path in paths]
    assert len(list(output.glob("*.png"))) == len(names)
    assert capsys.readouterr().out.count("\n") == len(names) + 1
    with pytest.raises(ValueError, match="x: no image there"):
        find_images("x" * 300)


def test_text_crops_and_lines_of_json(tmp_path, capsys):
    Image.new("RGB", (40, 30), "red").save(tmp_path / "photo.png")
    detector = Detector(EndToEndDetector(build_small_model().eval(), 3), ["a/b", "b", "c"], 32, 64)
    found = detector(tmp_path / "photo.png", 0.0)
    arguments = Namespace(**{**OPTIONS, "max_pixels": 10**6, "save_txt": True, "crops": True, "json": True})
    output = tmp_path / "found"
    output.mkdir()
    assert detect_all(detector, [tmp_path / "photo.png"], arguments, output) == (1, 0)
    assert json.loads(capsys.readouterr().out) == found.to_dict()
    lines = [line.split() for line in (output / "photo.txt").read_text().splitlines()]
    assert len(lines) == len(found) == len(list(output.glob("crops/*/photo_?.png"))) > 0
    for (label, *center_size, score), one in zip(lines, found, strict=True):
        x, y, width, height = (float(part) for part in center_size)
        corners = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
        scaled = [part * side for part, side in zip(corners, (40, 30, 40, 30), strict=True)]
        assert scaled == pytest.approx(one.box, abs=1e-3)
        assert (int(label), float(score)) == (one.label, pytest.approx(one.score, abs=1e-4))
