"""Detects objects in images: annotated PNGs and one JSON file out.

    python examples/detect.py runs/shapes/checkpoint.pth photo.jpg folder/ 'more/*.png' --output detections

The file may be a checkpoint of this library, detectron2 or mmdetection, or what export.py makes of one.
Images that cannot be read are named and left out, and the exit status tells.
"""

import argparse
import glob
import json
import os
import sys
from pathlib import Path
from typing import Any

import torch
from parts.box_drawing import draw_boxes
from parts.command_line import CommandLine, printable, run
from parts.detector_file import Detector, choose_device, detect_image, load_detector
from parts.finite import refuse_not_finite
from parts.host_memory import keep_freed_memory
from parts.image_options import add_image_options, refuse_unreadable
from torch import Tensor

from sparse_rcnn.data import UnreadableImageError, read_image

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"}
LONGEST_STEM = 200  # bytes of a picture's name, of 255 that file systems allow


def find_images(patterns: list[str]) -> list[Path]:
    """Files named, files in directories named, and files that globs match; in order, each once."""
    paths: dict[Path, None] = {}
    for pattern in patterns:
        # os.path and not Path: it answers no where a name is too long to exist.
        if os.path.isdir(pattern):
            found = sorted(p for p in Path(pattern).iterdir() if p.suffix.lower() in IMAGE_SUFFIXES)
        elif os.path.exists(pattern):
            found = [Path(pattern)]
        else:
            found = sorted(Path(p) for p in glob.glob(pattern, recursive=True) if os.path.isfile(p))
        if not found:
            raise ValueError(f"{pattern}: no image there")
        paths.update(dict.fromkeys(found))
    return list(paths)


def picture_for(path: Path, output: Path, taken: set[Path]) -> Path:
    """Where the picture of an image goes: into no other one and into no image, whatever they are called."""
    stem = os.fsencode(path.stem)[:LONGEST_STEM].decode(sys.getfilesystemencoding(), "ignore") or "image"
    name, copy = f"{stem}.png", 1
    while (output / name).resolve() in taken:
        name, copy = f"{stem}_{copy}.png", copy + 1
    taken.add((output / name).resolve())
    return output / name


def records_of(boxes: Tensor, scores: Tensor, labels: Tensor, class_names: list[str]) -> list[dict[str, Any]]:
    return [
        {
            "box_xyxy": [round(x, 2) for x in box.tolist()],
            "score": round(float(score), 4),
            "label": int(label),
            "class": class_names[int(label)],
        }
        for box, score, label in zip(boxes, scores, labels, strict=True)
    ]


def parse_arguments() -> argparse.Namespace:
    parser = CommandLine(__doc__)
    parser.add_argument("checkpoint", help="file of this library, detectron2, mmdetection or export.py")
    parser.add_argument("images", nargs="+", help="image files, directories of them, or quoted globs")
    parser.add_argument("--output", default="detections", metavar="DIR", help="made if absent (detections)")
    parser.add_argument("--threshold", type=float, default=0.3, help="lowest score kept, 0 to 1 (0.3)")
    parser.add_argument(
        "--size",
        type=int,
        metavar="PX",
        help="shortest side of the images (as stored in the checkpoint, or 800)",
    )
    parser.add_argument(
        "--max-size", type=int, metavar="PX", help="bound of the longest side (as stored, or 1333)"
    )
    add_image_options(parser)
    parser.add_argument(
        "--precision",
        choices=("fp32", "bf16"),
        default="fp32",
        help="bf16: faster, scores differ by up to about 0.01 (fp32)",
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    arguments: argparse.Namespace = parser.parse_args()
    if not 0 <= arguments.threshold <= 1:
        raise ValueError(f"--threshold must be in 0..1, got {arguments.threshold}")
    for name, value in (("size", arguments.size), ("max-size", arguments.max_size)):
        if value is not None and value < 1:
            raise ValueError(f"--{name} must be at least 1, got {value}")
    return arguments


def detect_all(
    detector: Detector, paths: list[Path], arguments: argparse.Namespace, device: torch.device, output: Path
) -> int:
    """Writes a picture of each image, and detections.json whatever happens; how many were unreadable."""
    records: dict[str, Any] = {}
    taken = {path.resolve() for path in paths} | {(output / "detections.json").resolve()}
    unreadable = 0
    try:
        for path in paths:
            try:
                image = read_image(
                    path, exif_orientation=arguments.exif_orientation, max_pixels=arguments.max_pixels
                )
            except UnreadableImageError as error:  # the others are worth having; the exit status tells
                print(printable(error), file=sys.stderr)
                unreadable += 1
                continue
            try:
                boxes, scores, labels = detect_image(detector, image, device, arguments.threshold)
            except ValueError as error:
                raise ValueError(f"{path}: {error}") from error
            picture = picture_for(path, output, taken)
            records[str(path)] = {
                "picture": str(picture),
                "detections": records_of(boxes, scores, labels, detector.class_names),
            }
            draw_boxes(image, boxes, labels, detector.class_names, scores).save(picture)
            print(printable(f"{path}: {len(boxes)} objects -> {picture}"))
    finally:
        (output / "detections.json").write_text(json.dumps(records, indent=2))
    print(printable(f"all detections -> {output / 'detections.json'}"))
    return unreadable


def main() -> None:
    arguments = parse_arguments()
    paths = find_images(arguments.images)
    device = choose_device(arguments.device)
    if device.type == "cpu":
        keep_freed_memory()
    detector = load_detector(arguments.checkpoint, device, precision=arguments.precision)
    detector = detector._replace(
        detect=refuse_not_finite(detector.detect, arguments.checkpoint),
        shortest_side=arguments.size or detector.shortest_side,
        longest_side=arguments.max_size or detector.longest_side,
    )
    output = Path(arguments.output)
    output.mkdir(parents=True, exist_ok=True)
    unreadable = detect_all(detector, paths, arguments, device, output)
    refuse_unreadable(unreadable, len(paths), arguments.max_unreadable)


if __name__ == "__main__":
    run(main, ValueError, ImportError, OSError)
