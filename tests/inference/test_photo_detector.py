"""A detector finds the same in a photo, in every form of the photo and in every way to call it."""

import io
import json
import shutil
import subprocess
import sys
import zipfile
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from inference_cases import assert_same
from PIL import Image
from processes import run_script
from small_model import build_small_model

from sparse_rcnn import load_detector
from sparse_rcnn.data import UnreadableImageError, evaluation_transform
from sparse_rcnn.inference import CheckpointRemark, NotFiniteError, batch_of
from sparse_rcnn.inference.export_check import check_exported
from sparse_rcnn.nn import (
    Backbone,
    build_from_checkpoint,
    fold_norms,
    load_checkpoint,
    save_checkpoint,
    to_detectron2,
    to_mmdetection,
)
from sparse_rcnn.ops import rescale_boxes, select_detections


def test_finds_what_the_model_finds(detector, checkpoint, pixels):
    """By the way that a user without this class would take, one call a line."""
    model = fold_norms(build_from_checkpoint(load_checkpoint(checkpoint)))
    batch = batch_of([evaluation_transform(96, 128)(pixels)], [(90, 130)])
    assert batch.images.shape[2] > batch.image_sizes[0, 0]  # padded
    with torch.no_grad():
        logits, boxes = model(batch.images, batch.image_sizes)
    expected = select_detections(logits[-1], boxes[-1], batch.image_sizes, 100)
    expected_boxes = rescale_boxes(expected.boxes, batch.image_sizes, batch.original_sizes)[0]
    found = detector(pixels, threshold=0.0)
    assert len(found) > 5
    torch.testing.assert_close(found.scores, expected.scores[0, : len(found)], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(found.boxes, expected_boxes[: len(found)], rtol=1e-4, atol=1e-3)
    assert found.boxes.amax(0)[2:].tolist() <= [130, 90]


@pytest.mark.slow
def test_detecting_imports_neither_torchvision_nor_the_compiler(checkpoint, photo):
    """They take as long to import as PyTorch itself: half of the time of a first photo."""
    code = (
        "import sys; from sparse_rcnn import load_detector; "
        "load_detector(sys.argv[1], 'cpu')(sys.argv[2]).draw(); "
        "print(*{'torchvision', 'torch._dynamo', 'sympy', 'matplotlib'} & {*sys.modules})"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, checkpoint, photo], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == ""


def forms_of(photo, pixels):
    array = np.asarray(Image.open(photo))
    return {
        "str": (str(photo), {}),
        "Path": (photo, {}),
        "PIL": (Image.open(photo), {}),
        "PIL of a stream": (Image.open(io.BytesIO(photo.read_bytes())), {}),
        "array": (array, {}),
        "OpenCV's": (array[..., ::-1], {"bgr": True}),
        "tensor": (pixels, {}),
        "floating tensor": (pixels / 255, {}),
        "double tensor": (pixels.double() / 255, {}),
        "channels-last tensor": (torch.from_numpy(array.copy()).permute(2, 0, 1), {}),
    }


def test_every_form_of_a_photo_is_found_the_same(detector, photo, pixels):
    expected = detector(pixels, threshold=0.0)
    for name, (form, options) in forms_of(photo, pixels).items():
        assert_same(detector(form, threshold=0.0, **options), expected)
        (found,) = detector([form], threshold=0.0, **options)
        assert_same(found, expected)
        assert found.photo.name == (str(photo) if name in ("str", "Path", "PIL") else "image 0"), name
    assert not torch.equal(detector(np.asarray(Image.open(photo)), 0.0, bgr=True).scores, expected.scores)


def test_every_file_of_a_detector_finds_the_same(detector, photo, tmp_path):
    expected = detector(photo, threshold=0.0)
    detector.save(tmp_path / "mine.safetensors")
    detector.save_pretrained(tmp_path / "hub")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "checkpoint.pth").write_bytes(b"the newest, which is not read")
    detector.save(tmp_path / "run" / "best.pth")
    for file in ("mine.safetensors", "hub", "run"):
        again = load_detector(tmp_path / file, "cpu")
        assert (again.class_names, again.category_ids) == (detector.class_names, [17, 18, 16])
        assert (again.shortest_side, again.longest_side) == (96, 128)
        assert_same(again(photo, threshold=0.0), expected)


# PyTorch 2.11 warns of itself when it reads a .pt2 file.
@pytest.mark.filterwarnings("ignore:The given buffer is not writable:UserWarning")
@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".torchscript.pt", ".pt2"])
def test_exports_find_the_same(detector, photo, tmp_path, suffix):
    differences = detector.export(tmp_path / f"mine{suffix}")
    assert [one.batch[0] for one in differences] == [1, 2]
    assert max(one.score for one in differences) < 1e-5

    def moved(*inputs):
        boxes, scores, labels = detector.module(*inputs)
        return boxes + 1, scores, labels

    size = {"shortest_side": 96, "longest_side": 128}
    with pytest.raises(ValueError, match=rf"mine{suffix}: differs from the checkpoint by .* 1\.0e\+00 px"):
        check_exported(moved, tmp_path / f"mine{suffix}", detector.device, size, None)
    exported = load_detector(tmp_path / f"mine{suffix}", "cpu")
    assert exported.class_names == detector.class_names
    found, expected = exported(photo, threshold=0.01), detector(photo, threshold=0.01)
    torch.testing.assert_close(found.scores, expected.scores, rtol=0, atol=1e-5)
    torch.testing.assert_close(found.boxes, expected.boxes, rtol=0, atol=1e-2)
    for change in (exported.export, exported.save):
        with pytest.raises(ValueError, match=r"mine.*: (is an exported file|only a detector of a check)"):
            change(tmp_path / "again.pt2")
    with pytest.raises(ValueError, match="the name must end in"):
        detector.export(tmp_path / "mine.engine")
    with pytest.raises(ValueError, match="there is no such directory"):
        detector.export(tmp_path / "none" / "mine.pt2")


@pytest.mark.parametrize("published", [to_mmdetection, pytest.param(to_detectron2, marks=pytest.mark.slow)])
def test_published_files_are_coco_s(tmp_path, published):
    model = build_small_model(num_classes=80, num_heads=8, backbone_norm="frozen").eval()
    torch.save({"state_dict": published(model.state_dict())}, tmp_path / "published.pth")
    detector = load_detector(tmp_path / "published.pth", "cpu")
    assert (detector.class_names[0], detector.class_names[79]) == ("person", "toothbrush")
    assert detector.category_ids[79] == 90
    assert (detector.shortest_side, detector.longest_side) == (800, 1333)
    smaller = load_detector(tmp_path / "published.pth", "cpu", image_size=(64, None))
    assert (smaller.shortest_side, smaller.longest_side) == (64, 1333)


@pytest.mark.slow
def test_script_and_api_agree_to_the_last_written_digit(detector, checkpoint, photo, tmp_path):
    done = run_script("detect.py", checkpoint, photo, "--threshold", "0.01", "--device", "cpu", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    written = json.loads((tmp_path / "detections" / "detections.json").read_text())[str(photo)]
    found = detector(photo, threshold=0.01).to_dict()
    assert len(found["detections"]) > 3
    assert written["detections"] == found["detections"]


def test_one_photo_gives_a_result_several_a_list_and_a_stream_an_iterator(detector, photo, pixels):
    folder = photo.parent
    one = detector(photo, threshold=0.0)
    for several in (folder, str(folder / "*.png"), [photo, pixels], (photo,), torch.stack([pixels, pixels])):
        results = detector(several, threshold=0.0)
        assert type(results) is list
        for found in results:
            assert_same(found, one)
    taken = []

    def photos():
        for number in range(5):
            taken.append(number)
            yield pixels

    results = detector(photos(), threshold=0.0, batch_size=2)
    assert taken == []
    torch.testing.assert_close(next(results).scores, one.scores, rtol=1e-3, atol=1e-6)
    assert taken == [0, 1]  # no more than a batch is read ahead
    assert len(list(results)) == 4


def test_batches_of_mixed_sizes_and_types(detector, photo, pixels):
    wide = pixels[:, :40].double() / 255 * 0.999  # not whole levels, so that it stays floating
    alone = detector(pixels, threshold=0.0)
    together = detector([pixels, wide, photo], threshold=0.0, batch_size=3)
    assert [found.image_size for found in together] == [(90, 130), (40, 130), (90, 130)]
    for found in (together[0], together[2]):  # the largest is not padded more than by itself
        torch.testing.assert_close(found.scores[:9], alone.scores[:9], rtol=1e-3, atol=1e-5)
    (found,) = detector([wide], threshold=0.0)
    assert 0 < (together[1].scores[0] - found.scores[0]).abs() < 0.02


def test_classes_and_threshold(detector, photo):
    everything = detector(photo, threshold=0.0)
    assert {*everything.names} == {"cat", "dog", "bird"}
    assert_same(detector(photo, 0.0, classes=["bird", 0]), everything[everything.labels != 1])
    least = float(everything.scores[3])
    found = detector(photo, threshold=least)
    assert (len(found), found.below) == (4, None)
    none = detector([photo], threshold=1.0)[0]
    assert (len(none), none.below) == (0, everything[0])
    assert f"the best below the threshold: {everything[0].name} {everything[0].score:.2g})" in repr(none)
    with pytest.raises(ValueError, match="no class 'cow'; the classes are cat, dog, bird"):
        detector(photo, classes=["cow"])
    with pytest.raises(ValueError, match=r"threshold must be in 0\.\.1, got '0\.4'"):
        detector(photo, threshold="0.4")
    with pytest.raises(ValueError, match=r"threshold must be in 0\.\.1, got 40"):
        detector(photo, threshold=40)
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        detector(photo, batch_size=0)


def test_exif_is_turned_upright(detector, pixels, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying: to be turned by 90 degrees clockwise
    lying = Image.fromarray(pixels.rot90(1, (1, 2)).permute(1, 2, 0).numpy().copy())
    lying.save(tmp_path / "lying.png", exif=exif)
    expected = detector(pixels, threshold=0.0)
    for form in (tmp_path / "lying.png", Image.open(tmp_path / "lying.png")):
        assert_same(detector(form, threshold=0.0), expected)
        assert detector(form, exif_orientation="ignore").image_size == (130, 90)


def test_unreadable_images_are_an_error_or_left_out(detector, photo, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(photo.read_bytes()[:3000])
    sources = [broken, photo, tmp_path / "none.png"]
    with pytest.raises(UnreadableImageError, match=r"broken\.png: cannot be read as an image"):
        detector(sources)
    errors = []
    (found,) = detector(sources, on_unreadable=errors.append)
    assert found.photo.name == str(photo)
    assert [Path(str(error).split(": ")[0]).name for error in errors] == ["broken.png", "none.png"]


@pytest.fixture
def unreadable_forms(photo, tmp_path):
    """By name: a photo that cannot be read, and words of the error."""
    broken = tmp_path / "broken.png"
    broken.write_bytes(photo.read_bytes()[:3000])
    with Image.open(broken) as truncated, Image.open(photo) as vector:
        vector.format = "EPS"
        yield {
            "path": (broken, "broken.png: cannot be read as an image"),
            "missing path": ("none.jpg", "none.jpg: no image there"),
            "PIL": (truncated, "broken.png: cannot be read as an image"),
            "PIL of a stream": (Image.open(io.BytesIO(broken.read_bytes())), ": cannot be read as an image"),
            "PIL that is no raster": (vector, "is a vector format"),
            "URL": ("http://localhost:1/a.png", "http://localhost:1/a.png: cannot be read as an image"),
            "URL of another kind": ("ftp://host/a.png", "a.png: a URL must begin with http"),
        }


def test_of_every_form_one_that_is_unreadable_is_left_out(detector, photo, unreadable_forms):
    errors = []
    for name, (form, words) in unreadable_forms.items():
        assert detector(form, on_unreadable=errors.append) is None, name
        (found,) = detector([form, photo], on_unreadable=errors.append)
        (streamed,) = detector(iter([form, photo]), on_unreadable=errors.append)
        assert found.photo.name == streamed.photo.name == str(photo)
        assert [words in str(error) for error in errors] == [True] * 3, (name, errors)
        errors.clear()
        with pytest.raises(UnreadableImageError, match=words):
            detector(form)
        with pytest.raises(ValueError, match="exif_orientation must be"):
            detector(form, exif_orientation="no", on_unreadable=errors.append)
    assert detector("none_*.jpg", on_unreadable=errors.append) == []
    assert detector("none", on_unreadable=errors.append) == []


def test_a_video_that_is_unreadable_is_left_out(detector, photo, tmp_path):
    pytest.importorskip("av")
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    errors = []
    assert len(detector([tmp_path / "broken.mp4", photo], on_unreadable=errors.append)) == 1
    assert list(detector("none.mp4", on_unreadable=errors.append)) == []
    assert ["a video that cannot be read" in str(error) for error in errors] == [True, False]


def test_figures_that_are_not_finite_name_photo_and_file(checkpoint, photo, tmp_path):
    content = torch.load(checkpoint, weights_only=True)
    del content["digest"]
    content["model"]["head.stages.1.attention_norm.weight"].fill_(3e38)
    torch.save(content, tmp_path / "diverged.pth")
    with pytest.warns(CheckpointRemark, match="has no digest"):
        detector = load_detector(tmp_path / "diverged.pth", "cpu")
    with pytest.raises(NotFiniteError, match=rf"{photo.name}: .* weights in .*diverged\.pth are damaged"):
        detector(photo)


def test_of_what_is_no_detector(tmp_path, checkpoint):
    with pytest.raises(ValueError, match=r"none\.pth: no such file"):
        load_detector(tmp_path / "none.pth")
    with pytest.raises(ValueError, match=r"the folder holds no model\.safetensors or best\.pth or check"):
        load_detector(tmp_path)
    with zipfile.ZipFile(tmp_path / "foreign.pt2", "w") as archive:
        archive.writestr("a.txt", "a")
    for name, content, words in (
        (
            "recipe.txt",
            b"recipe for small data",
            "torch.save did not write it: it begins with 'recipe",
        ),
        ("photo.jpg", b"\xff\xd8\xff", r"torch.save did not write it: it begins with '\\xff\\xd8\\xff'"),
        ("pickle.pth", b"\x80\x02.", "torch.load with weights_only=True refuses it"),
        ("empty.pth", b"", "the file is empty"),
        ("foreign.pt2", None, "cannot be loaded as pt2: not an archive of torch.export"),
    ):
        if content is not None:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=rf"{name}: .*{words}"):
            load_detector(tmp_path / name)
    (tmp_path / "checkpoint.pth").write_bytes(b"not the one of a run that is taken")
    shutil.copy(checkpoint, tmp_path / "best.pth")
    assert len(load_detector(tmp_path, "cpu").class_names) == 3
    for options, message in (
        ({"device": "cuda:x"}, "device cuda:x: PyTorch knows no such device"),
        ({"precision": "int4"}, "precision must be 'fp32' or 'bf16', got 'int4'"),
        *(({"image_size": size}, "image_size must be") for size in ((0, 5), 320, (320,))),
        ({"image_size": (320, None)}, "the shortest side 320 is above the limit of the longest, 128"),
        ({"max_detections": 0}, "max_detections must be at least 1, got 0"),
    ):
        with pytest.raises(ValueError, match=message):
            load_detector(checkpoint, **{"device": "cpu", **options})


def test_a_checkpoint_that_changed_is_not_saved_as_the_one_that_was_loaded(checkpoint, tmp_path):
    copy = tmp_path / "running.pth"
    copy.write_bytes(checkpoint.read_bytes())
    detector = load_detector(copy, "cpu")
    copy.write_bytes(copy.read_bytes() + b" ")
    with pytest.raises(ValueError, match=r"running\.pth: has changed since the detector was loaded"):
        detector.save(tmp_path / "other.pth")


def test_bf16_is_near_and_exactly_autocast(detector, checkpoint, photo):
    in_bf16 = load_detector(checkpoint, "cpu", precision="bf16")
    rounded, exact = in_bf16(photo, threshold=0.0), detector(photo, threshold=0.0)
    assert 0 < (rounded.scores[:5] - exact.scores[:5]).abs().max() < 0.01
    inputs = torch.zeros(1, 3, 64, 96, dtype=torch.uint8), torch.tensor([[64, 90]])
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        expected = in_bf16.module(*inputs)
    with torch.inference_mode():
        found = in_bf16.detect(*inputs)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    weights = in_bf16.module.state_dict()  # what is exported is not rounded
    assert all(torch.equal(weights[name], one) for name, one in detector.module.state_dict().items())


def test_a_users_backbone_is_copied_not_changed(tmp_path):
    """It may train on while a detector of its checkpoint is in use."""
    backbone = Backbone("resnet10", "group", 16)
    save_checkpoint(tmp_path / "own.pth", build_small_model(backbone=backbone))
    detector = load_detector(tmp_path / "own.pth", "cpu", precision="bf16", backbone=backbone)
    before = backbone.trunk.conv1.weight.detach().clone()
    with torch.no_grad():
        backbone.train().trunk.conv1.weight += 1
    assert torch.equal(detector.module.model.backbone.trunk.conv1.weight, before)
    detector.save(tmp_path / "again.pth")
    assert torch.equal(backbone.trunk.conv1.weight, before + 1)
    assert backbone.training


def test_repr_says_what_it_is(detector):
    assert repr(detector) == (
        "Detector(mine.pth, 3 classes (cat, dog, bird), shortest side 96, longest at most 128, on cpu)"
    )


@pytest.mark.parametrize("kind", [np.int64, torch.tensor])
def test_whole_numbers_of_numpy_and_torch_are_whole_numbers(detector, checkpoint, photo, kind):
    expected = detector([photo, photo], 0.0, classes=[2, 0], batch_size=2, tile=64)
    options = {"classes": [kind(2), kind(0)], "batch_size": kind(2), "tile": kind(64)}
    for found, one in zip(detector([photo, photo], 0.0, **options), expected, strict=True):
        assert_same(found, one)
    assert_same(found.filter([kind(0)]), one.filter([0]))
    assert json.loads(json.dumps(found.to_coco(kind(5))))[0]["image_id"] == 5
    small = load_detector(checkpoint, "cpu", max_detections=kind(3), image_size=(kind(64), kind(96)))
    assert len(small(photo, threshold=0.0)) == 3
    assert json.dumps([small.shortest_side, small.longest_side, small.module.max_detections]) == "[64, 96, 3]"


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ([0.5], r"classes: a label must be a whole number, got 0\.5"),
        ([None], "classes: a label must be a whole number, got None"),
        ([True], "classes: a label must be a whole number, got True"),
        ([-1], "classes: a label must be at least 0, got -1"),
        ([3], "classes: there is no class 3; the classes are cat, dog, bird"),
        (1, r"classes must be a list of names or labels, got 1: give \[1\]"),
        ("cat", r"classes must be a list of names or labels, got 'cat': give \['cat'\]"),
    ],
)
def test_classes_that_there_are_not_are_named(detector, photo, classes, message):
    for call in (partial(detector, photo), detector(photo).filter):
        with pytest.raises(ValueError, match=message):
            call(classes=classes)
    assert len(detector(photo, 0.0).filter([])) == 0
    with pytest.raises(ValueError, match=r"classes must be at least one name or label, got \[\]"):
        detector(photo, classes=[])
