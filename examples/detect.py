"""Detects objects in images: annotated PNGs and one JSON file out.

    python examples/detect.py runs/shapes/checkpoint.pth photo.jpg folder/ 'more/*.png' --output detections

The file may be a checkpoint of this library, detectron2 or mmdetection, or what export.py makes of one.
Images that cannot be read are named and left out, and the exit status tells.
"""

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

import torch
from parts.command_line import CommandLine, printable, run
from parts.host_memory import keep_freed_memory
from parts.image_options import add_image_options, refuse_unreadable

from sparse_rcnn.data import UnreadableImageError
from sparse_rcnn.inference import Detector, choose_device, find_images, load_detector

LONGEST_STEM = 200  # bytes of a picture's name, of 255 that file systems allow


def picture_for(path: Path, output: Path, taken: set[Path]) -> Path:
    """Where the picture of an image goes: into no other one and into no image, whatever they are called."""
    stem = os.fsencode(path.stem)[:LONGEST_STEM].decode(sys.getfilesystemencoding(), "ignore") or "image"
    name, copy = f"{stem}.png", 1
    while (output / name).resolve() in taken:
        name, copy = f"{stem}_{copy}.png", copy + 1
    taken.add((output / name).resolve())
    return output / name


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


def detect_all(detector: Detector, paths: list[Path], arguments: argparse.Namespace, output: Path) -> int:
    """Writes a picture of each image, and detections.json whatever happens; how many were unreadable."""
    records: dict[str, Any] = {}
    taken = {path.resolve() for path in paths} | {(output / "detections.json").resolve()}
    unreadable: list[UnreadableImageError] = []

    def leave_out(error: UnreadableImageError) -> None:  # the others are worth having; the exit status tells
        print(printable(error), file=sys.stderr)
        unreadable.append(error)

    results = detector.iterate(
        paths,
        arguments.threshold,
        exif_orientation=arguments.exif_orientation,
        max_pixels=arguments.max_pixels,
        on_unreadable=leave_out,
    )
    try:
        for found in results:
            picture = picture_for(Path(found.photo.name), output, taken)
            found.draw().save(picture)
            records[found.photo.name] = {"picture": str(picture), **found.to_dict()}
            print(printable(f"{found.photo.name}: {len(found)} objects -> {picture}"))
    finally:
        (output / "detections.json").write_text(json.dumps(records, indent=2))
    print(printable(f"all detections -> {output / 'detections.json'}"))
    return len(unreadable)


def main() -> None:
    arguments = parse_arguments()
    paths = [*dict.fromkeys(path for pattern in arguments.images for path in find_images(pattern))]
    device = choose_device(arguments.device)
    if device.type == "cpu":
        keep_freed_memory()
    sides = arguments.size, arguments.max_size
    detector = load_detector(arguments.checkpoint, device, arguments.precision, image_size=sides)
    output = Path(arguments.output)
    output.mkdir(parents=True, exist_ok=True)
    unreadable = detect_all(detector, paths, arguments, output)
    refuse_unreadable(unreadable, len(paths), arguments.max_unreadable)


if __name__ == "__main__":
    run(main, ValueError, ImportError, OSError)
