"""Pictures of the detections in the first validation images."""

import math
from pathlib import Path

import PIL.Image
import torch

from parts.box_drawing import draw_boxes
from parts.detector_file import Detector, detect_image
from sparse_rcnn.data import DetectionDataset, UnreadableImageError


def draw_predictions(
    detector: Detector, dataset: DetectionDataset, device: torch.device, count: int
) -> dict[str, PIL.Image.Image]:
    """Pictures of the first images, by the name of their file; those that cannot be read are left out."""
    pictures = {}
    transform = dataset.transform
    dataset.transform = None
    try:
        for index in range(min(count, len(dataset))):
            try:
                image, _ = dataset[index]
            except UnreadableImageError:
                continue
            boxes, scores, labels = detect_image(detector, image, device, threshold=0.3)
            name = Path(dataset.image_paths[index]).stem
            pictures[name] = draw_boxes(image, boxes, labels, detector.class_names, scores)
    finally:
        dataset.transform = transform
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
