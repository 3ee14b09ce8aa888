"""detect.py: how it finds images and names pictures."""

import json
import os
from argparse import Namespace
from fractions import Fraction

import numpy as np
import pytest
from detect import detect_all
from inference_cases import OPTIONS
from parts.detection_pictures import picture_for, replace_by
from PIL import Image
from small_model import build_small_model

from sparse_rcnn.inference import Detector, find_images
from sparse_rcnn.inference.resaving import Origin
from sparse_rcnn.inference.video import VideoFile
from sparse_rcnn.nn import EndToEndDetector


def test_pictures_overwrite_neither_each_other_nor_an_image(tmp_path):
    image = tmp_path / "photo.png"
    taken = {image.resolve()}
    names = [picture_for(path, tmp_path, taken).name for path in (image, tmp_path / "a" / "photo.jpg")]
    assert names == ["photo_1.png", "photo_2.png"]
    image.write_bytes(b"a photo")
    (tmp_path / "hard.png").hardlink_to(image)
    replace_by(Image.new("RGB", (4, 3)), tmp_path / "hard.png")
    assert image.read_bytes() == b"a photo"
    assert (tmp_path / "hard.png").read_bytes().startswith(b"\x89PNG")
    long = picture_for(tmp_path / f"{'ü' * 125}.jpg", tmp_path, taken)
    assert len(os.fsencode(long.name)) <= 210
    long.write_bytes(b"")


def test_all_kinds_of_names_end_in_pictures_and_json(tmp_path, monkeypatch, capsys):
    names = ["new\nline.png", "\x1b[31mred.png", os.fsdecode(b"bad\xff.png"), "n" * 251 + ".png"]
    names.append("clip.mp4, frame 7.png")  # as frames of videos are called
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
    arguments.threshold = 0.99
    detect_all(detector, [tmp_path / "photo.png"], arguments, tmp_path)
    expected = f"remark: no object has a score of 0.99 or more; the best has {found[0].score:.2g} ("
    assert capsys.readouterr().err.startswith(expected)
    arguments.threshold, arguments.max_detections = 0.0, len(found)
    detect_all(detector, [tmp_path / "photo.png"], arguments, tmp_path)
    full = f"remark: 1 photo has {len(found)} objects, which is the limit: --max-detections"
    assert f"{full} of export takes a larger one" in capsys.readouterr().err  # as of an exported file
    detector.origin = Origin.of(tmp_path / "photo.png")
    detect_all(detector, [tmp_path / "photo.png"], arguments, tmp_path)
    assert f"{full} takes a larger one" in capsys.readouterr().err
    lines = [line.split() for line in (output / "photo.txt").read_text().splitlines()]
    assert len(lines) == len(found) == len(list(output.glob("crops/*/photo_?.png"))) > 0
    for (label, *center_size, score), one in zip(lines, found, strict=True):
        x, y, width, height = (float(part) for part in center_size)
        corners = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
        scaled = [part * side for part, side in zip(corners, (40, 30, 40, 30), strict=True)]
        assert scaled == pytest.approx(one.box, abs=1e-3)
        assert (int(label), float(score)) == (one.label, pytest.approx(one.score, abs=1e-4))


def test_a_video_becomes_a_video_of_its_rate(tmp_path):
    av = pytest.importorskip("av")
    levels = np.random.default_rng(0).integers(0, 256, (9, 13, 3), dtype=np.uint8)
    scenes = [Image.fromarray(np.roll(levels, shift, 1)).resize((131, 91)) for shift in (0, 3, 6, 9)]
    with VideoFile(tmp_path / "clip.mp4", Fraction(25, 2)) as video:
        for scene in scenes:
            video.add(scene)
    detector = Detector(EndToEndDetector(build_small_model().eval(), 3), ["a", "b", "c"], 32, 64)
    arguments = Namespace(**{**OPTIONS, "max_pixels": 10**6, "save_txt": True})
    output = tmp_path / "found"
    output.mkdir()
    assert detect_all(detector, [tmp_path / "clip.mp4"], arguments, output) == (4, 0)
    with av.open(output / "clip.mp4") as container:
        assert container.streams.video[0].average_rate == Fraction(25, 2)
        frames = [frame.to_image() for frame in container.decode(video=0)]
    expected = [found.draw() for found in detector(tmp_path / "clip.mp4", 0.0)]
    assert len(frames) == len(expected) == 4
    for frame, picture in zip(frames, expected, strict=True):
        assert frame.size == picture.size == (130 * 4, 90 * 4)  # enlarged, as other small photos
        assert np.abs(np.asarray(frame, float) - np.asarray(picture, float)).mean() < 20
    records = json.loads((output / "detections.json").read_text())
    assert [record["picture"] for record in records.values()] == [str(output / "clip.mp4")] * 4
    names = ["clip.mp4", *(f"clip_{number:06}.txt" for number in range(4)), "detections.json"]
    assert sorted(path.name for path in output.iterdir()) == names


def test_a_video_that_cannot_be_written_is_removed_and_the_first_error_is_told(tmp_path):
    av = pytest.importorskip("av")
    video = VideoFile(tmp_path / "clip.mp4")
    picture = Image.new("RGB", (64, 48))
    video.add(picture)

    class Full:
        def encode(self, frame=None):
            raise av.error.FFmpegError(28, "No space left on device")

    video._stream = Full()
    with pytest.raises(
        ValueError, match=r"clip.mp4: the video cannot be written, and is removed: .*No space"
    ):
        video.add(picture)
    video.close()  # as detect.py does whatever happens
    assert not (tmp_path / "clip.mp4").exists()
