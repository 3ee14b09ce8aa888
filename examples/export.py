"""Exports a detector to one file. It runs without this package: image in, detections out, no NMS.

    python examples/export.py runs/shapes/best.pth --format onnx
    python examples/export.py r50_100pro_3x_model.pth --format pt2 --image photo.jpg --output detector.pt2

The formats are torchscript (libtorch, torch.jit.load), pt2 (torch.export), onnx (ONNX Runtime and others)
and aoti (machine code by AOTInductor, for this kind of machine; it needs a C++ compiler).

Inputs are `images` [B, 3, H, W], uint8 RGB, padded right and bottom, and `image_sizes` [B, 2], int64 (height,
width). B is any number, H and W are any numbers above 32. Outputs are boxes [B, D, 4] (x1, y1, x2, y2) in
pixels of the batch, scores [B, D] and labels [B, D]. The file also holds class names and image size. At the
end, the file is loaded and compared with the checkpoint.
"""

import argparse
import logging
import time
from pathlib import Path

import torch
from parts.command_line import CommandLine, printable, run
from parts.detector_options import CHECKPOINT, add_device_option
from parts.measuring import take_turns
from parts.outputs import check_outputs

from sparse_rcnn.data import read_image
from sparse_rcnn.data.formats.counted import counted
from sparse_rcnn.inference import choose_device, file_format, load_detector
from sparse_rcnn.inference.export import SUFFIXES
from sparse_rcnn.nn.checkpoints.checkpoint import checkpoint_file


def parse_arguments() -> argparse.Namespace:
    parser = CommandLine(__doc__)
    parser.add_argument("checkpoint", help=CHECKPOINT)
    parser.add_argument("--format", choices=tuple(SUFFIXES), required=True, help="what to write")
    parser.add_argument(
        "--output",
        metavar="FILE",
        help="file to write (beside the checkpoint, with the suffix of the format)",
    )
    parser.add_argument("--max-detections", type=int, default=100, help="detections per image (100)")
    parser.add_argument(
        "--image", metavar="FILE", help="photo to compare results and times on (drawn shapes)"
    )
    parser.add_argument("--repeats", type=int, default=5, help="timed runs of checkpoint and file (5)")
    add_device_option(parser)
    arguments: argparse.Namespace = parser.parse_args()
    return arguments


def main() -> None:
    arguments = parse_arguments()
    if arguments.repeats < 1:
        raise ValueError(f"--repeats must be at least 1, got {arguments.repeats}")
    source, device = checkpoint_file(arguments.checkpoint), choose_device(arguments.device)
    if file_format(source) != "checkpoint":
        raise ValueError(f"{source}: is an exported file; give its checkpoint")
    photo = None if arguments.image is None else read_image(arguments.image)
    detector = load_detector(arguments.checkpoint, device, max_detections=arguments.max_detections)
    suffix = SUFFIXES[arguments.format]
    ending = suffix[suffix.rindex(".") :]
    path = Path(arguments.output) if arguments.output else source.with_name(source.stem + suffix)
    if path.suffix != ending:
        raise ValueError(f"--output {path}: a file of {arguments.format} ends in {ending}")
    check_outputs({"--output": path}, (source, arguments.image))
    path.parent.mkdir(parents=True, exist_ok=True)

    minutes = ", which takes minutes" if arguments.format in ("onnx", "aoti") else ""
    print(printable(f"writing {path}{minutes}"))
    start = time.perf_counter()
    # It would name each constant that it does not fold.
    logging.getLogger("onnxscript.optimizer").setLevel(logging.ERROR)
    differences = detector.export(path, arguments.format, photo)
    seconds = time.perf_counter() - start
    print(printable(f"{path}: {path.stat().st_size / 1e6:.1f} MB, written and compared in {seconds:.0f} s"))
    for (count, height, width), score, box, tied in differences:
        left_out = (
            f"; not compared, since their scores are equal within rounding: {counted(tied, 'box', 'boxes')}"
            if tied
            else ""
        )
        print(
            f"  {count} x {height} x {width}: largest difference of scores {score:.1e}, of boxes {box:.1e} px"
            f"{left_out}"
        )

    exported = load_detector(path, device)
    _, height, width = differences[0].batch
    image = torch.zeros(1, 3, height, width, dtype=torch.uint8, device=device)
    size = torch.tensor([[height, width]], device=device)
    with torch.inference_mode():
        runs = {
            "checkpoint": lambda: detector.detect(image, size),
            "file": lambda: exported.detect(image, size),
        }
        eager, run = take_turns(runs, arguments.repeats, device).values()
    print(
        f"  {image.shape[2]} x {image.shape[3]} on {device}: {run * 1e3:.1f} ms, checkpoint in eager PyTorch "
        f"{eager * 1e3:.1f} ms ({eager / run:.2f} times as fast; medians of {arguments.repeats})"
    )


if __name__ == "__main__":
    run(main, ValueError, ImportError, OSError)
