"""Exports a detector to one file. It runs without this package: image in, detections out, no NMS.

    python examples/export.py runs/shapes/checkpoint.pth --format onnx
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
from parts.measuring import take_turns
from torch import Tensor

from sparse_rcnn.data import evaluation_transform, read_image
from sparse_rcnn.inference import Detect, batch_of, choose_device, file_format, load_detector
from sparse_rcnn.inference.export import SUFFIXES

DEFAULT_IMAGE = Path(__file__).resolve().parents[1] / "docs" / "predictions.jpg"
SCORE_TOLERANCE = 1e-4
BOX_TOLERANCE = 1e-2  # pixels


def largest_differences(expected: tuple[Tensor, ...], found: tuple[Tensor, ...]) -> tuple[float, float, int]:
    """Of scores, and of boxes in pixels where no near-tie of scores may swap places; and how many may.

    Raises:
        ValueError: if a label differs where scores are apart, or a result is not finite.
    """
    boxes, scores, labels = (part.cpu() for part in expected)
    found_boxes, found_scores, found_labels = (part.cpu() for part in found)
    if scores.shape != found_scores.shape:
        raise ValueError(f"{tuple(found_scores.shape)} detections instead of {tuple(scores.shape)}")
    if not (found_scores.isfinite().all() and found_boxes.isfinite().all()):
        raise ValueError("detections are not finite")
    score = (scores - found_scores).abs().max().item()
    gap = (scores[:, :-1] - scores[:, 1:]) > 2 * score  # [B, D-1]
    nothing = torch.ones_like(scores[:, :1], dtype=torch.bool)
    # The last one may have lost its place to one that is not in the list.
    clear = torch.cat((nothing, gap), dim=1) & torch.cat((gap, ~nothing), dim=1)  # [B, D]
    if not torch.equal(labels[clear], found_labels[clear]):
        raise ValueError("labels differ from the checkpoint's where their scores are apart")
    box = (boxes - found_boxes)[clear].abs()
    return score, box.max().item() if box.numel() else 0.0, int((~clear).sum())


def batches_of(photo: Tensor, shortest_side: int, longest_side: int) -> list[tuple[Tensor, Tensor]]:
    """Images and sizes: the photo as it is evaluated, and two smaller ones of different sizes."""
    image = evaluation_transform(shortest_side, longest_side)(photo)
    small = evaluation_transform(max(64, shortest_side // 2), longest_side)(photo)
    # A part of it, mirrored: narrower, so that it has padding.
    narrow = small[..., : max(40, small.shape[-1] * 2 // 3)].flip(-1)
    batches = []
    for images in ([image], [small, narrow]):
        batch = batch_of(images, [(photo.shape[1], photo.shape[2])] * len(images))
        batches.append((batch.images, batch.image_sizes))
    return batches


def verify(checkpoint: Detect, exported: Detect, batches: list[tuple[Tensor, Tensor]]) -> tuple[float, float]:
    """The largest differences of scores, and of boxes in pixels."""
    worst_score, worst_box = 0.0, 0.0
    for images, sizes in batches:
        with torch.inference_mode():
            score, box, tied = largest_differences(checkpoint(images, sizes), exported(images, sizes))
        left_out = (
            f"; not compared, since their scores are equal within rounding: {tied} boxes" if tied else ""
        )
        print(
            f"  {len(images)} x {images.shape[2]} x {images.shape[3]}: largest difference of scores "
            f"{score:.1e}, of boxes {box:.1e} px{left_out}"
        )
        worst_score, worst_box = max(worst_score, score), max(worst_box, box)
    return worst_score, worst_box


def parse_arguments() -> argparse.Namespace:
    parser = CommandLine(__doc__)
    parser.add_argument("checkpoint", help="file of this library, detectron2 or mmdetection")
    parser.add_argument("--format", choices=tuple(SUFFIXES), required=True)
    parser.add_argument(
        "--output", metavar="FILE", help="beside the checkpoint, with the format's suffix, unless given"
    )
    parser.add_argument("--max-detections", type=int, default=100, help="per image (100)")
    parser.add_argument(
        "--image", default=str(DEFAULT_IMAGE), help="to compare and time on (docs/predictions.jpg)"
    )
    parser.add_argument("--repeats", type=int, default=5, help="timed runs of each (5)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    arguments: argparse.Namespace = parser.parse_args()
    return arguments


def main() -> None:
    arguments = parse_arguments()
    if arguments.repeats < 1:
        raise ValueError(f"--repeats must be at least 1, got {arguments.repeats}")
    source, device = Path(arguments.checkpoint), choose_device(arguments.device)
    if file_format(source) != "checkpoint":
        raise ValueError(f"{source}: is exported already; give the checkpoint that it was made of")
    photo = read_image(arguments.image)
    if device.type == "cuda":
        torch.backends.cudnn.allow_tf32 = False  # rounds to 10 bits: differences would be its, not the file's
    detector = load_detector(arguments.checkpoint, device, max_detections=arguments.max_detections)
    suffix = SUFFIXES[arguments.format]
    ending = suffix[suffix.rindex(".") :]
    path = Path(arguments.output) if arguments.output else source.with_name(source.stem + suffix)
    if path.suffix != ending:
        raise ValueError(f"--output {path}: a file of {arguments.format} ends in {ending}")
    if path.resolve() == source.resolve():
        raise ValueError(f"--output {path}: is the checkpoint itself")
    path.parent.mkdir(parents=True, exist_ok=True)

    minutes = ", which takes minutes" if arguments.format in ("onnx", "aoti") else ""
    print(printable(f"writing {path}{minutes}"))
    start = time.perf_counter()
    logging.getLogger("onnxscript.optimizer").setLevel(logging.ERROR)  # what it does not fold, it keeps
    detector.export(path, arguments.format)
    seconds = time.perf_counter() - start
    print(printable(f"{path}: {path.stat().st_size / 1e6:.1f} MB, written in {seconds:.0f} s"))

    exported = load_detector(path, device)
    batches = [
        (images.to(device), sizes.to(device))
        for images, sizes in batches_of(photo, detector.shortest_side, detector.longest_side)
    ]
    score, box = verify(detector.detect, exported.detect, batches)
    image, size = batches[0]
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
    if not (score <= SCORE_TOLERANCE and box <= BOX_TOLERANCE):
        raise ValueError(
            f"{path}: differs from the checkpoint by more than {SCORE_TOLERANCE} in a score or "
            f"{BOX_TOLERANCE} px in a box"
        )


if __name__ == "__main__":
    run(main, ValueError, ImportError, OSError)
