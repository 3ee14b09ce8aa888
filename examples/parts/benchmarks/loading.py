"""Reading data: decoding, augmenting and collating."""

import json
import tempfile
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from PIL import Image

from parts.measuring import Machine, Run, Table, compare
from parts.open_dataset import load_dataset
from sparse_rcnn.data import (
    CocoDetection,
    DetectionDataset,
    collate,
    evaluation_transform,
    training_transform,
)


def draw_photographs(directory: Path, height: int, width: int) -> tuple[Path, Path]:
    """Writes 16 JPEGs with the smoothness and noise of photographs, and their COCO file."""
    images, annotations = [], []
    for index in range(16):
        generator = torch.Generator().manual_seed(index)
        coarse = 255 * torch.rand(1, 3, 12, 16, generator=generator)
        smooth = F.interpolate(coarse, (height, width), mode="bicubic")
        grainy = smooth + 12 * torch.randn(1, 3, height, width, generator=generator)
        path = directory / f"{index}.jpg"
        pixels = rearrange(grainy[0].clamp(0, 255).to(torch.uint8), "c h w -> h w c")
        Image.fromarray(pixels.numpy()).save(path, quality=90)
        images.append({"id": index, "file_name": path.name, "height": height, "width": width})
        box = [10, 10, 30, 20]
        annotations.append({"id": index, "image_id": index, "category_id": 1, "bbox": box, "area": 600})
    coco = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "thing"}]}
    (directory / "photographs.json").write_text(json.dumps(coco))
    return directory, directory / "photographs.json"


def measure_loading(machine: Machine, data: str | None) -> list[Table]:
    """The table for decoding, augmenting and collating in one thread, like a worker of a DataLoader."""
    height, width = (48, 64) if machine.tiny else (480, 640)
    with tempfile.TemporaryDirectory() as directory:
        dataset: DetectionDataset
        if data is None:
            dataset = CocoDetection(*draw_photographs(Path(directory), height, width))
            what = f"16 generated JPEGs of {height}×{width}"
        else:
            dataset = load_dataset(data, "val", None, drop_degenerate=True)
            what = f"{min(16, len(dataset))} images of {Path(data).name}"
        count = min(16, len(dataset))

        def read(transform: Any) -> Run:
            def run() -> None:
                dataset.transform = transform
                threads = torch.get_num_threads()
                torch.set_num_threads(1)
                collate([dataset[index] for index in range(count)])
                torch.set_num_threads(threads)

            return run

        runs = {
            "decode": read(None),
            "decode, flip, resize to 480..800 px": read(training_transform()),
            "decode, flip, half of them cropped, resize": read(training_transform(crop=True)),
            "decode, resize to 800 px": read(evaluation_transform()),
        }
        return [compare(f"Reading data in one thread, {what}", runs, machine, count)]
