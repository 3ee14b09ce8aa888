"""Pictures of the detections in the first validation images."""

import math
import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path

import PIL.Image
from PIL import ImageDraw, ImageFont, ImageOps

from sparse_rcnn.data import DetectionDataset, Draw, SeededDataset, UnreadableImageError
from sparse_rcnn.inference import Detector, NotFiniteError, draw_boxes

THRESHOLD = 0.3  # lowest score that is drawn
LONGEST = 1200  # pixels of a side; pictures of larger photos are made smaller
GAP, TITLE = 8, 24  # pixels between pictures, and of a line of text
ABOUT_PAIRS = (
    f"Left: what is there. Right: what was found, with scores of at least {THRESHOLD}. Each box is one of "
    "the proposals, and there is no NMS: two boxes on one object are two proposals that both claim it. "
    "Training makes this rare."
)


def draw_predictions(detector: Detector, dataset: DetectionDataset, count: int) -> dict[str, PIL.Image.Image]:
    """The first images with their objects, and beside it with what is found, by the name of their file.

    Those that cannot be read are left out. Of files of the same name, the later ones get a number.
    """
    pictures: dict[str, PIL.Image.Image] = {}
    for index in range(min(count, len(dataset))):
        try:
            image, target = dataset.read(index, None)
            found = detector(image, threshold=THRESHOLD)
        except (UnreadableImageError, NotFiniteError):
            continue
        pair = draw_boxes(image, target.boxes, target.labels, dataset.class_names), found.draw()
        for picture in pair:
            picture.thumbnail((LONGEST, LONGEST))
        best = f", best score {found.below.score:.2g}" if found.below else ""
        titles = f"{len(target.labels)} there", f"{len(found)} found{best}"
        stem = name = Path(dataset.image_paths[index]).stem
        copy = 0
        while name.lower() in {other.lower() for other in pictures}:  # "A" is "a" on some disks
            copy += 1
            name = f"{stem}_{copy}"
        pictures[name] = beside(pair, titles)
    return pictures


def beside(pictures: Sequence[PIL.Image.Image], titles: Sequence[str]) -> PIL.Image.Image:
    """Pictures of one size side by side, each below its title."""
    sheet = sheet_of(
        [ImageOps.expand(picture, (0, TITLE, 0, 0), "white") for picture in pictures], len(pictures)
    )
    draw = ImageDraw.Draw(sheet)
    for number, title in enumerate(titles):
        place = number * (pictures[0].width + GAP), 0
        draw.text(place, title, "black", ImageFont.load_default(TITLE * 3 // 4))
    return sheet


def draw_samples(
    samples: SeededDataset, class_names: list[str], draws: Iterable[Draw]
) -> list[PIL.Image.Image]:
    """Pictures of training images as the model sees them, with what it is to find."""
    pictures = []
    for draw in draws:
        try:
            image, target = samples[draw]
        except UnreadableImageError:
            continue
        pictures.append(draw_boxes(image, target.boxes, target.labels, class_names))
    return pictures


def sheet_of(pictures: list[PIL.Image.Image], columns: int = 3, text: str = "") -> PIL.Image.Image:
    """Pictures side by side in rows, above a text."""
    columns = max(1, min(columns, len(pictures)))
    width = max((picture.width for picture in pictures), default=1)
    height = max((picture.height for picture in pictures), default=1)
    rows = max(1, math.ceil(len(pictures) / columns))
    size = columns * (width + GAP) - GAP, rows * (height + GAP) - GAP
    lines = textwrap.wrap(text, max(20, size[0] * 2 // TITLE))
    sheet = PIL.Image.new("RGB", (size[0], size[1] + len(lines) * TITLE), "white")
    for index, picture in enumerate(pictures):
        sheet.paste(picture, (index % columns * (width + GAP), index // columns * (height + GAP)))
    draw = ImageDraw.Draw(sheet)
    for number, line in enumerate(lines):
        draw.text((0, size[1] + number * TITLE), line, "black", ImageFont.load_default(TITLE * 3 // 4))
    return sheet
