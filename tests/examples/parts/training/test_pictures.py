"""Pictures of detections, also if images are missing."""

import shutil
from pathlib import Path

import PIL.Image
import pytest
import torch
from parts.training import pictures
from parts.training.pictures import GAP, TITLE, draw_predictions, sheet_of
from torch import Tensor
from torchvision.transforms import v2

from sparse_rcnn.data import DetectionDataset, ShapesDataset, evaluation_transform
from sparse_rcnn.inference import Detector, draw_boxes

CPU = torch.device("cpu")
NUM_IMAGES = 4


@pytest.fixture(scope="module")
def intact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("pictures") / "shapes"
    ShapesDataset(directory, "val", NUM_IMAGES, image_size=64)
    return directory


@pytest.fixture
def dataset(intact: Path, tmp_path: Path) -> ShapesDataset:
    """A data set of files that a test may damage."""
    copy = shutil.copytree(intact, tmp_path / "shapes")
    return ShapesDataset(copy, "val", NUM_IMAGES, image_size=64, transform=evaluation_transform(32, 32))


def detector(detect) -> Detector:
    return Detector(detect, ["a", "b"], 128, 128)


def find_the_middle(images: Tensor, image_sizes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """A box in the middle of each image, and one over the whole image whose score is too low."""
    height, width = (image_sizes[:, axis, None].float() for axis in (0, 1))
    middle = torch.cat([width / 4, height / 4, width * 3 / 4, height * 3 / 4], 1)
    whole = torch.cat([width * 0, height * 0, width, height], 1)
    boxes = torch.stack([middle, whole], 1)
    return boxes, torch.tensor([[0.9, 0.2]]), torch.tensor([[1, 0]])


def find_nothing(images: Tensor, image_sizes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return torch.zeros(1, 1, 4), torch.zeros(1, 1), torch.zeros(1, 1, dtype=torch.int64)


def differing_pixels(picture: PIL.Image.Image, other: PIL.Image.Image) -> Tensor:
    pixels = [v2.functional.pil_to_tensor(image) for image in (picture, other)]
    return (pixels[0] != pixels[1]).any(dim=0)


@pytest.mark.parametrize("count", [1, 3, NUM_IMAGES, 10])
def test_there_is_a_picture_of_each_of_the_first_images(dataset: ShapesDataset, count: int) -> None:
    drawn = draw_predictions(detector(find_nothing), dataset, count)
    assert list(drawn) == [f"{n:012d}" for n in range(1, min(count, NUM_IMAGES) + 1)]
    for picture, size in zip(drawn.values(), dataset.image_sizes, strict=False):
        zoom = (picture.height - TITLE) // size[0]  # small images are enlarged
        assert zoom >= 1
        # Twice, below titles, and not as transformed.
        assert (picture.height, picture.width) == (zoom * size[0] + TITLE, 2 * zoom * size[1] + GAP)


def test_what_is_found_is_drawn_where_it_is(dataset: ShapesDataset) -> None:
    (empty,), (drawn,) = (
        draw_predictions(detector(detect), dataset, 1).values() for detect in (find_nothing, find_the_middle)
    )
    assert not differing_pixels(drawn, empty)[:, : drawn.width // 2].any()  # on the left are the objects
    right = [
        picture.crop((picture.width // 2 + GAP // 2, TITLE, picture.width, picture.height))
        for picture in (drawn, empty)
    ]
    changed = differing_pixels(*right)
    height, width = changed.shape
    assert changed[height // 4 : height * 3 // 4, width // 4 + 1].float().mean() > 0.8  # the left edge
    assert changed[height * 3 // 4 - 1, width // 4 : width * 3 // 4].float().mean() > 0.8  # the lower edge
    assert not changed[-2:].any()  # the score of the box over the whole image is too low
    assert not changed[:, -2:].any()


def test_objects_are_drawn_beside_what_is_found(dataset: ShapesDataset) -> None:
    image, target = dataset.read(0, None)
    expected = draw_boxes(image, target.boxes, target.labels, dataset.class_names)
    (picture,) = draw_predictions(detector(find_nothing), dataset, 1).values()
    left = picture.crop((0, TITLE, expected.width, picture.height))
    assert not differing_pixels(left, expected).any()


def test_pictures_of_large_photos_are_small(dataset: ShapesDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "LONGEST", 100)
    (picture,) = draw_predictions(detector(find_nothing), dataset, 1).values()
    assert picture.width == 100 + GAP + 100
    assert picture.height <= TITLE + 100


def test_images_that_cannot_be_read_are_left_out(dataset: ShapesDataset) -> None:
    Path(dataset.image_paths[1]).write_bytes(b"no image")
    Path(dataset.image_paths[2]).unlink()
    drawn = draw_predictions(detector(find_nothing), dataset, 4)
    assert list(drawn) == [f"{n:012d}" for n in (1, 4)]


def test_of_files_of_one_name_each_has_a_picture(tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("a/x.png", "b/x.png", "b/X.jpg", "c/x_1.png")]
    for number, file in enumerate(files):
        file.parent.mkdir(exist_ok=True)
        PIL.Image.new("RGB", (64, 64), (60 * number, 0, 0)).save(file)
    dataset = DetectionDataset.from_boxes(files, [[]] * 4, [[]] * 4, ["a", "b"])
    drawn = draw_predictions(detector(find_nothing), dataset, 4)
    assert list(drawn) == ["x", "x_1", "X_2", "x_1_1"]
    assert len({picture.getpixel((9, TITLE + 9)) for picture in drawn.values()}) == 4


def test_the_data_set_keeps_its_transform(dataset: ShapesDataset) -> None:
    transform = dataset.transform
    draw_predictions(detector(find_nothing), dataset, 1)
    assert dataset.transform is transform

    def fail(images: Tensor, image_sizes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        draw_predictions(detector(fail), dataset, 1)
    assert dataset.transform is transform


@pytest.mark.parametrize(
    ("count", "columns", "rows"), [(1, 1, 1), (2, 2, 1), (3, 3, 1), (4, 3, 2), (6, 3, 2), (7, 3, 3)]
)
def test_a_sheet_has_three_in_a_row_and_shows_each_whole(count: int, columns: int, rows: int) -> None:
    pictures = [PIL.Image.new("RGB", (20 + 3 * n, 40 - 2 * n), (n + 1, 0, 0)) for n in range(count)]
    sheet = sheet_of(pictures)
    width, height = 20 + 3 * (count - 1), 40
    assert sheet.size == (columns * (width + 8) - 8, rows * (height + 8) - 8)
    found = {colour: number for number, colour in sheet.getcolors()}
    for n, picture in enumerate(pictures):
        assert found[(n + 1, 0, 0)] == picture.width * picture.height
    assert sheet.getpixel((0, 0)) == (1, 0, 0)


def test_a_text_stands_below_the_pictures_and_is_wrapped() -> None:
    pictures = [PIL.Image.new("RGB", (200, 40), "red")] * 2
    sheet = sheet_of(pictures, 2, "some words " * 20)
    lines, left = divmod(sheet.height - 40, TITLE)
    assert left == 0
    assert lines >= 4
    below = v2.functional.pil_to_tensor(sheet)[:, 40:]
    for line in range(lines):
        part = below[:, line * TITLE : (line + 1) * TITLE]
        assert (part == 0).any()
        assert (part[:, :, -4:] == 255).all()  # nothing is cut off


def test_a_sheet_of_nothing_is_a_picture_too(tmp_path: Path) -> None:
    sheet_of([]).save(tmp_path / "sheet.png")
    with PIL.Image.open(tmp_path / "sheet.png") as sheet:
        assert min(sheet.size) >= 1
