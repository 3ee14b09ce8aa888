"""Detects objects in images: annotated PNGs and one JSON file out.

    python examples/detect.py runs/shapes/checkpoint.pth photo.jpg folder/ 'more/*.png' --output detections

The file may be a checkpoint of this library, detectron2 or mmdetection, or what export.py makes of one.
"""

import argparse
import glob
import json
import sys
from pathlib import Path
from typing import Any

import torch
from parts.box_drawing import draw_boxes
from parts.detector_file import choose_device, detect_image, load_detector
from parts.host_memory import keep_freed_memory

from sparse_rcnn.data import read_image

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"}


def find_images(patterns: list[str]) -> list[Path]:
    """Files named, files in directories named, and files that globs match; in order, each once."""
    paths: dict[Path, None] = {}
    for pattern in patterns:
        if Path(pattern).is_dir():
            found = sorted(p for p in Path(pattern).iterdir() if p.suffix.lower() in IMAGE_SUFFIXES)
        elif Path(pattern).is_file():
            found = [Path(pattern)]
        else:
            found = sorted(Path(p) for p in glob.glob(pattern, recursive=True) if Path(p).is_file())
        if not found:
            raise ValueError(f"{pattern}: no image there")
        paths.update(dict.fromkeys(found))
    return list(paths)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
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
    parser.add_argument(
        "--precision",
        choices=("fp32", "tf32", "bf16"),
        default="fp32",
        help="bf16: faster, scores differ by up to about 0.01; tf32, on a GPU: between the two (fp32)",
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    if not 0 <= arguments.threshold <= 1:
        raise ValueError(f"--threshold must be in 0..1, got {arguments.threshold}")
    paths = find_images(arguments.images)
    device = choose_device(arguments.device)
    if device.type == "cpu":
        keep_freed_memory()
    detector = load_detector(arguments.checkpoint, device, precision=arguments.precision)
    detector = detector._replace(
        shortest_side=arguments.size or detector.shortest_side,
        longest_side=arguments.max_size or detector.longest_side,
    )
    output = Path(arguments.output)
    output.mkdir(parents=True, exist_ok=True)
    records: dict[str, Any] = {}
    names: set[str] = set()
    unreadable = 0
    for path in paths:
        try:
            image = read_image(path)
        except ValueError as error:  # the others are worth having; the exit status tells
            print(error, file=sys.stderr)
            unreadable += 1
            continue
        boxes, scores, labels = detect_image(detector, image, device, arguments.threshold)
        name, copy = f"{path.stem}.png", 1
        while name in names:  # two files of one name in different directories
            name, copy = f"{path.stem}_{copy}.png", copy + 1
        names.add(name)
        draw_boxes(image, boxes, labels, detector.class_names, scores).save(output / name)
        records[str(path)] = {
            "picture": str(output / name),
            "detections": [
                {
                    "box_xyxy": [round(x, 2) for x in box.tolist()],
                    "score": round(float(score), 4),
                    "label": int(label),
                    "class": detector.class_names[int(label)],
                }
                for box, score, label in zip(boxes, scores, labels, strict=True)
            ],
        }
        print(f"{path}: {len(boxes)} objects -> {output / name}")
    (output / "detections.json").write_text(json.dumps(records, indent=2))
    print(f"all detections -> {output / 'detections.json'}")
    if unreadable:
        raise ValueError(f"{unreadable} of {len(paths)} images could not be read")


if __name__ == "__main__":
    try:
        main()
    except (ValueError, ImportError) as error:
        sys.exit(f"error: {str(error).strip().splitlines()[-1]}")
