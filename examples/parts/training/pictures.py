"""Pictures of the detections in the first validation images."""

import math
from collections.abc import Sequence
from pathlib import Path

import PIL.Image

from sparse_rcnn.data import DetectionDataset, Draw, SeededDataset, UnreadableImageError
from sparse_rcnn.inference import Detector, NotFiniteError, draw_boxes


def draw_predictions(detector: Detector, dataset: DetectionDataset, count: int) -> dict[str, PIL.Image.Image]:
    """Pictures of the first images, by the name of their file; those that cannot be read are left out."""
    pictures = {}
    transform = dataset.transform
    dataset.transform = None
    try:
        for index in range(min(count, len(dataset))):
            try:
                image, _ = dataset[index]
                found = detector(image, threshold=0.3)
            except (UnreadableImageError, NotFiniteError):
                continue
            pictures[Path(dataset.image_paths[index]).stem] = found.draw()
    finally:
        dataset.transform = transform
    return pictures


def draw_samples(
    samples: SeededDataset, class_names: list[str], indices: Sequence[int], epoch: int = 0
) -> list[PIL.Image.Image]:
    """Pictures of training images as the model sees them in an epoch, with what it is to find."""
    pictures = []
    for index in indices:
        try:
            image, target = samples[Draw(index, epoch)]
        except UnreadableImageError:
            continue
        pictures.append(draw_boxes(image, target.boxes, target.labels, class_names))
    return pictures


def sheet_of(pictures: list[PIL.Image.Image]) -> PIL.Image.Image:
    """Pictures side by side, three in a row."""
    columns = max(1, min(3, len(pictures)))
    width = max((picture.width for picture in pictures), default=1)
    height = max((picture.height for picture in pictures), default=1)
    rows = max(1, math.ceil(len(pictures) / columns))
    sheet = PIL.Image.new("RGB", (columns * (width + 8) - 8, rows * (height + 8) - 8), "white")
    for index, picture in enumerate(pictures):
        sheet.paste(picture, (index % columns * (width + 8), index // columns * (height + 8)))
    return sheet
