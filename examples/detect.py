"""Detects objects in images and videos. Writes annotated PNGs, videos and one JSON file.

    python examples/detect.py runs/shapes/best.pth photo.jpg folder/ 'more/*.png' --output detections
    python examples/detect.py runs/shapes/best.pth --video clip.mp4 --classes circle ring
    python examples/detect.py runs/shapes/best.pth aerial.png --tile 640 --overlap 0.2

The file may be a checkpoint of this library, detectron2 or mmdetection, or what export.py makes of one.
Images that cannot be read are named and left out. The exit status is then 1. In code, use load_detector.
"""

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any

from parts.command_line import CommandLine, printable, run
from parts.detection_pictures import Pictures
from parts.detector_options import (
    CHECKPOINT,
    add_device_option,
    add_size_options,
    add_speed_options,
    refuse_below_one,
)
from parts.host_memory import keep_freed_memory
from parts.image_options import add_image_options, refuse_unreadable
from parts.low_scores import about_low_scores
from parts.outputs import check_outputs, remark
from parts.precision import set_precision

from sparse_rcnn.data import UnreadableImageError
from sparse_rcnn.data.formats.counted import counted
from sparse_rcnn.inference import Detected, Detector, Found, choose_device, find_images, load_detector
from sparse_rcnn.inference.download import is_url


def parse_arguments() -> argparse.Namespace:
    parser = CommandLine(__doc__)
    parser.add_argument("checkpoint", help=f"{CHECKPOINT}; or a file of export.py")
    parser.add_argument(
        "images", nargs="*", help="image files, directories of them, quoted globs, URLs or videos"
    )
    parser.add_argument(
        "--video",
        action="append",
        default=[],
        metavar="FILE",
        help="a video. The result is a video with boxes",
    )
    parser.add_argument("--camera", type=int, metavar="N", help="number of a camera, from 0. Ctrl-C ends it")
    parser.add_argument("--frames", action="store_true", help="also a picture of each frame of a video")
    parser.add_argument(
        "--output", default="detections", metavar="DIR", help="folder of the results (detections)"
    )
    parser.add_argument("--threshold", type=float, default=0.3, help="lowest score to keep, 0 to 1 (0.3)")
    parser.add_argument(
        "--max-detections",
        type=int,
        metavar="N",
        help="limit of objects in a photo (100; of an exported file, its own number)",
    )
    parser.add_argument("--classes", nargs="+", metavar="NAME", help="keep only these classes (all)")
    parser.add_argument("--save-txt", action="store_true", help="also a text file in YOLO's format per image")
    parser.add_argument("--crops", action="store_true", help="also a picture of each object, by class")
    parser.add_argument("--json", action="store_true", help="print only a line of JSON per image")
    parser.add_argument(
        "--tile",
        type=int,
        metavar="PX",
        help="cut large images into tiles of this side, for small objects. Results are merged",
    )
    parser.add_argument(
        "--overlap",
        type=float,
        default=0.2,
        metavar="SHARE",
        help="overlap of neighbouring tiles, as a share of their side (0.2)",
    )
    parser.add_argument(
        "--augment",
        action="store_true",
        help="take means over three sizes, each as it is and mirrored. Six times as slow",
    )
    parser.add_argument("--batch-size", type=int, default=1, help="images per batch (1)")
    add_size_options(parser)
    add_image_options(parser)
    add_speed_options(parser)
    add_device_option(parser)
    arguments: argparse.Namespace = parser.parse_args()
    if not (arguments.images or arguments.video or arguments.camera is not None):
        raise ValueError("give images, --video or --camera")
    if not 0 <= arguments.threshold <= 1:
        raise ValueError(f"--threshold must be in 0..1, got {arguments.threshold}")
    refuse_below_one(arguments, "size", "max_size", "max_detections")
    return arguments


def write_more(found: Detected, picture: Path, namesake: Path, arguments: argparse.Namespace) -> None:
    """What --save-txt, --crops and --json ask for, named after a picture."""
    if arguments.save_txt:
        namesake.with_suffix(".txt").write_text(found.to_yolo())
    if arguments.crops:
        for number, (crop, name) in enumerate(zip(found.crops(), found.names, strict=True)):
            directory = namesake.parent / "crops" / (re.sub(r"[^\w -]", "_", name)[:60] or "_")
            directory.mkdir(parents=True, exist_ok=True)
            crop.save(directory / f"{namesake.stem}_{number}.png")
    if arguments.json:
        print(json.dumps(found.to_dict()), flush=True)
    else:
        print(printable(f"{found.photo.name}: {counted(len(found), 'object', 'objects')} -> {picture}"))


def detect_all(
    detector: Detector, sources: list[Any], arguments: argparse.Namespace, output: Path
) -> tuple[int, int]:
    """Writes a picture of each image, and detections.json whatever happens; how many were read, or not."""
    records: dict[str, Any] = {}
    paths = [source for source in sources if isinstance(source, Path)]
    taken = {path.resolve() for path in paths} | {(output / "detections.json").resolve()}
    pictures = Pictures(output, taken, arguments.frames)
    unreadable: list[UnreadableImageError] = []
    best: Found | None = None  # where nothing was found
    counts: list[int] = []

    def leave_out(error: UnreadableImageError) -> None:  # the others are worth having; the exit status tells
        print(printable(error), file=sys.stderr)
        unreadable.append(error)

    options = ("classes", "batch_size", "exif_orientation", "max_pixels", "tile", "overlap", "augment")
    results = detector.iterate(
        sources,
        arguments.threshold,
        on_unreadable=leave_out,
        **{name: getattr(arguments, name) for name in options},
    )
    try:
        for found in results:
            picture, namesake = pictures.add(found)
            records[found.photo.name] = {"picture": str(picture), **found.to_dict()}
            write_more(found, picture, namesake, arguments)
            counts.append(len(found))
            best = max((one for one in (best, found.below) if one), key=lambda one: one.score, default=None)
    finally:
        pictures.close()
        (output / "detections.json").write_text(json.dumps(records, indent=2))
    most = arguments.max_detections or 100
    if records and not any(counts):
        remark(about_low_scores(arguments.threshold, best and (best.score, best.name)))
    elif most in counts and arguments.tile is None:
        full = counted(counts.count(most), "photo has", "photos have")
        where = "--max-detections" if detector.origin else "--max-detections of export"  # a file has its own
        remark(f"{full} {most} objects, which is the limit: {where} takes a larger one")
    if not arguments.json:
        print(printable(f"all detections -> {output / 'detections.json'}"))
    return len(records), len(unreadable)


def main() -> None:
    arguments = parse_arguments()
    named: dict[Any, None] = {}
    for name in [*arguments.images, *arguments.video]:  # each once
        named.update(dict.fromkeys([name] if is_url(name) else find_images(name)))
    sources = [*named] + ([] if arguments.camera is None else [arguments.camera])
    device = choose_device(arguments.device)
    if device.type == "cpu":
        keep_freed_memory()
    sides = arguments.size, arguments.max_size
    detector = load_detector(
        arguments.checkpoint,
        device,
        set_precision(arguments, device),
        arguments.compile,
        max_detections=arguments.max_detections,
        image_size=sides,
    )
    output = Path(arguments.output)
    check_outputs({}, folders={"--output": output})
    output.mkdir(parents=True, exist_ok=True)
    read, unreadable = detect_all(detector, sources, arguments, output)
    refuse_unreadable(unreadable, read + unreadable, arguments.max_unreadable)


if __name__ == "__main__":
    run(main, ValueError, ImportError, OSError)
