"""Files that are read in pieces, flat lists, and sizes that are remembered."""

import json
import multiprocessing
import os
import pickle
from multiprocessing.queues import SimpleQueue
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from large_dataset import write_large
from PIL import Image

from sparse_rcnn.data import DetectionDataset, UnreadableImageError, load_dataset
from sparse_rcnn.data.formats import image_sizes, json_sections
from sparse_rcnn.data.formats.flat import FlatRows, FlatStrings
from sparse_rcnn.data.formats.json_sections import Consumed, read_sections

names = st.text(st.characters(exclude_categories=()), max_size=6)
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)  # beyond, orjson reads floats
    | st.floats(allow_nan=False)
    | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=8,
)
entries = st.lists(st.dictionaries(names, values, max_size=3) | values, max_size=8)


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_sections, "PIECE", 16)


@pytest.mark.slow
@given(st.dictionaries(names, values, max_size=3), entries, entries, st.sampled_from([None, 1]))
def test_pieces_are_what_json_loads_whole(others, images, annotations, indent) -> None:
    content = {**others, "images": images, "annotations": annotations}
    file = Path(os.environ.get("TMPDIR", "/tmp")) / f"sections_{os.getpid()}.json"
    file.write_text(json.dumps(content, indent=indent))
    found: dict[str, list] = {"images": [], "annotations": []}

    def take(name):
        def add(some, first):
            assert first == len(found[name])
            found[name] += some

        return add

    members = read_sections(file, {name: take(name) for name in found})
    file.unlink()
    assert found == {"images": images, "annotations": annotations}
    assert {name: value for name, value in members.items() if not isinstance(value, Consumed)} == others
    assert members["images"] == len(images)


FAULTS = {
    '{"images": [{"a": 1}, {"a": 2}, {"a" 3}]}': "character 37: Expecting ':' delimiter",
    '{"images": [{"a": 1}, {"a": 2}, {"a": 3}': "the list does not end",
    '{"images": [{"a": 1}, {"a": "2}, {"b": 3}]}': "Unterminated string|Expecting",
    '{"images": [{"a": [{"b": 1}, {"b": 2}}]}': "Expecting ',' delimiter",
    '{"images": [{"a": 1} {"a": 2}]}': "Expecting ',' delimiter",
    '{"images": [], "images": []}': "'images' occurs twice",
    '{"images": []} []': "extra text after the object",
    '{"images": [], }': "a name in double quotes is expected",
    '{"images": [],': "a name in double quotes is expected, the file ends",
}


@pytest.mark.parametrize(("text", "message"), FAULTS.items())
def test_faults_have_a_place(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "broken.json"
    file.write_text(text)
    with pytest.raises(ValueError, match=rf"broken\.json: is not valid.*({message})"):
        read_sections(file, {"images": lambda some, first: None})


@given(st.lists(st.text(st.characters(exclude_categories=()), max_size=8), max_size=9))
def test_flat_strings_are_a_list(texts: list[str]) -> None:
    flat = pickle.loads(pickle.dumps(FlatStrings(texts)))
    assert (list(flat), flat[:], flat[::-2], len(flat)) == (texts, texts, texts[::-2], len(texts))
    assert flat == texts
    if texts:
        assert flat[-1] == texts[-1]
    with pytest.raises(IndexError):
        flat[len(texts)]


def test_flat_rows_are_a_list_of_numbers() -> None:
    sizes = [(480, 640), (3, 4)]
    assert FlatRows(sizes) == sizes
    assert FlatRows(sizes)[-1] == (3, 4)
    assert type(FlatRows([7, 8])[0]) is int
    assert FlatRows([7, 8]).index(8) == 1
    assert FlatRows(sizes)[1:] == sizes[1:]


def test_sizes_are_remembered_until_a_file_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPARSE_RCNN_CACHE", str(tmp_path / "cache"))
    paths = [str(tmp_path / f"{name}.png") for name in "abc"]
    for number, path in enumerate(paths):
        Image.new("RGB", (10 + number, 20)).save(path)
    read: list[str] = []
    real = image_sizes.read_image_size
    monkeypatch.setattr(
        image_sizes, "read_image_size", lambda path, **options: read.append(path) or real(path, **options)
    )

    def sizes_and_read() -> tuple[list, list[str]]:
        read.clear()
        sizes, problems = image_sizes.read_image_sizes(paths)
        return sizes.tolist(), sorted(read) + sorted(problems.values())

    expected = [[20, 10], [20, 11], [20, 12]]
    assert sizes_and_read() == (expected, paths)
    assert sizes_and_read() == (expected, [])
    before = os.stat(paths[1])
    Image.new("RGB", (99, 20)).save(paths[1])
    os.utime(paths[1], ns=(before.st_atime_ns, before.st_mtime_ns))  # as a copy with its old time
    expected[1] = [20, 99]
    assert sizes_and_read() == (expected, paths[1:2])
    assert sizes_and_read() == (expected, [])
    for file in (tmp_path / "cache").iterdir():
        file.write_bytes(file.read_bytes()[:50])  # a cache that is cut off is not used
    assert sizes_and_read() == (expected, paths)
    os.unlink(paths[0])
    sizes, said = sizes_and_read()
    assert sizes[0] == [0, 0]
    assert "a.png: cannot be read" in said[-1] or "a.png" in said[-1]
    (tmp_path / "blocked").write_text("")
    monkeypatch.setenv("SPARSE_RCNN_CACHE", str(tmp_path / "blocked"))  # a file, not a folder
    assert sizes_and_read()[0][1:] == expected[1:]


def test_headers_that_were_right_are_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPARSE_RCNN_CACHE", str(tmp_path / "cache"))
    for name in "ab":
        Image.new("RGB", (12, 20)).save(tmp_path / f"{name}.png")
    paths = [tmp_path / "a.png", tmp_path / "b.png"]
    checked: list[list[str]] = []
    real = image_sizes.check_image_files
    monkeypatch.setattr(
        image_sizes,
        "check_image_files",
        lambda paths, sizes, **options: checked.append(list(paths)) or real(paths, sizes, **options),
    )
    for expected in (list(map(str, paths)), []):
        DetectionDataset.from_boxes(paths, [[], []], [[], []], ["cat"]).check_images()
        assert checked[-1] == expected
    data = DetectionDataset.from_boxes(paths, [[], []], [[], []], ["cat"])
    Image.new("RGB", (12, 21)).save(paths[1])
    for _ in range(2):  # a wrong file is never remembered as right
        with pytest.raises(UnreadableImageError, match=r"b\.png: the image is 21 x 12 .* says 20 x 12"):
            data.check_images()
        assert checked[-1] == [str(paths[1])]


def test_a_large_data_set_is_as_it_was_written(tmp_path: Path) -> None:
    """The one of `python tests/large_dataset.py`, small: its boxes lie in the order of images."""
    write_large(tmp_path / "large", 40, 1000)
    data = load_dataset(tmp_path / "large", val_share=0)
    assert (len(data), data.num_objects, len(data.class_names)) == (40, 1000, 365)
    assert np.bincount(data.annotations.image_indices).tolist() == [25] * 40
    assert data.image_paths[7].endswith("large/train/images/patch0/objects365_v2_00000007.jpg")


@pytest.mark.slow
def test_a_worker_copies_no_list(tmp_path: Path) -> None:
    """What a data set of many images holds are arrays that processes share: no copy, no object an image."""
    flat = FlatStrings(f"images/{number:08d}.jpg" for number in range(10_000))
    held = flat._shared.arrays
    assert sum(value.nbytes for value in held) < 10_000 * 40
    Image.new("RGB", (12, 20)).save(tmp_path / "a.png")
    data = DetectionDataset.from_boxes([tmp_path / "a.png"], [[[1, 2, 9, 9]]], [[0]], ["cat"])
    assert pickle.loads(pickle.dumps(data))[0][1].boxes.tolist() == [[1, 2, 9, 9]]
    context = multiprocessing.get_context("spawn")
    answers = context.SimpleQueue()
    process = context.Process(target=_double_and_answer, args=(data, flat, answers))
    process.start()
    assert answers.get() == ([[1, 2, 9, 9]], "images/00000077.jpg", [(20, 12)])
    process.join()
    assert data[0][1].boxes.tolist() == [[2, 4, 18, 18]]  # written by the other process


def _double_and_answer(data: DetectionDataset, flat: FlatStrings, answers: SimpleQueue) -> None:
    boxes = data[0][1].boxes.tolist()
    data.annotations.boxes[...] *= 2
    answers.put((boxes, flat[77], list(data.image_sizes)))
