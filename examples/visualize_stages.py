"""Shows how the stages refine the proposals (paper, figure 5), on an image or over a data set.

    python examples/visualize_stages.py runs/coco/best.pth photo.jpg --stages 1 3 6 --output six.png
    python examples/visualize_stages.py runs/coco/best.pth photo.jpg --animate stages.gif
    python examples/visualize_stages.py runs/coco/best.pth --data /data/coco --max-images 500

With --data, it writes three files, named after --output: stages_drift.png shows how far each stage moves the
boxes, stages_places.png shows the final places of each proposal, and stages.json has both as numbers. This
needs learned proposals: proposals from the image differ from image to image. The first argument is a
checkpoint of this library, detectron2 or mmdetection.
"""

import argparse
import json
from pathlib import Path

import torch
from einops import rearrange
from parts.command_line import CommandLine, printable, run
from parts.detector_options import CHECKPOINT, add_device_option, add_size_options, refuse_below_one
from parts.image_options import add_image_options, refuse_unreadable
from parts.open_dataset import DATA, load_dataset
from parts.outputs import check_outputs
from parts.png import save_png
from parts.stage_drawing import draw_stages, moving_stages
from parts.stage_survey import SMALL_AREA, model_of, numbers_of, plot_drift, plot_places, refine, survey
from PIL import Image
from torch import Tensor

from sparse_rcnn.data import read_image
from sparse_rcnn.inference import (
    Detector,
    NotFiniteError,
    choose_device,
    file_format,
    load_detector,
)
from sparse_rcnn.nn import DenseProposals
from sparse_rcnn.nn.checkpoints.checkpoint import checkpoint_file

ANIMATIONS = (".gif", ".png", ".webp")
SURVEYED = ("_drift.png", "_places.png", ".json")  # of --data
PROPOSAL_OPACITY = 0.8  # learned ones have no score


def named_after(output: str, suffix: str) -> Path:
    """A file of --data: stages_drift.png for stages.png."""
    return Path(output).with_name(f"{Path(output).stem}{suffix}")


def choose_stages(wanted: list[int] | None, num_stages: int) -> list[int]:
    """Stages to draw, counted from 1, each once. The default is first, middle and last."""
    stages = list(dict.fromkeys(wanted or (1, (num_stages + 1) // 2, num_stages)))
    for stage in stages:
        if not 1 <= stage <= num_stages:
            raise ValueError(f"--stages {stage}: no such stage, the checkpoint has stages 1 to {num_stages}")
    return stages


def parse_arguments() -> argparse.Namespace:
    parser = CommandLine(__doc__)
    parser.add_argument("checkpoint", help=CHECKPOINT)
    parser.add_argument("image", nargs="?", help="image file to draw the stages on")
    parser.add_argument(
        "--stages", type=int, nargs="+", metavar="S", help="stages, from 1 (first, middle, last)"
    )
    parser.add_argument("--output", default="stages.png", metavar="FILE", help="PNG to write (stages.png)")
    parser.add_argument(
        "--threshold", type=float, default=0.3, help="lowest score with a caption, 0 to 1 (0.3)"
    )
    parser.add_argument("--animate", metavar="FILE", help="all stages as an animation: .gif, .png or .webp")
    parser.add_argument("--data", metavar="PATH", help=f"data set to survey: {DATA}")
    parser.add_argument(
        "--split",
        default="val",
        help="split of the data set, such as test. For images that a training run held out: its split.json, "
        "or their share (val)",
    )
    parser.add_argument("--max-images", type=int, metavar="N", help="only the first N images (all)")
    parser.add_argument("--max-panels", type=int, default=20, metavar="N", help="proposals shown (20)")
    add_size_options(parser)
    add_image_options(parser)
    add_device_option(parser)
    arguments: argparse.Namespace = parser.parse_args()
    if not 0 <= arguments.threshold <= 1:
        raise ValueError(f"--threshold must be in 0..1, got {arguments.threshold}")
    refuse_below_one(arguments, "max_images", "max_panels", "size", "max_size")
    if arguments.image is None and (arguments.animate or arguments.data is None):
        raise ValueError("--animate needs an image" if arguments.animate else "an image or --data is needed")
    if Path(arguments.output).suffix.lower() != ".png":
        raise ValueError(f"--output must end in .png, got {arguments.output}")
    if arguments.animate and Path(arguments.animate).suffix.lower() not in ANIMATIONS:
        raise ValueError(f"--animate must end in one of {', '.join(ANIMATIONS)}, got {arguments.animate}")
    if arguments.animate and Path(arguments.animate).resolve() == Path(arguments.output).resolve():
        raise ValueError(f"--animate and --output must differ, both are {arguments.animate}")
    outputs = {"--animate": arguments.animate}
    if arguments.image:
        outputs["--output"] = arguments.output
    if arguments.data:
        outputs |= {f"--output, {suffix}": named_after(arguments.output, suffix) for suffix in SURVEYED}
    check_outputs(outputs, (arguments.checkpoint, arguments.image))
    return arguments


def visualize_image(
    arguments: argparse.Namespace, detector: Detector, image: Tensor, device: torch.device
) -> None:
    """Draws the stages on an image, and the animation if one is wanted."""
    threshold, output = arguments.threshold, Path(arguments.output)
    try:
        boxes, scores, labels = refine(detector, image, device)
    except NotFiniteError as error:
        raise NotFiniteError(f"{arguments.image}: {error}") from error
    stages = choose_stages(arguments.stages, len(scores))
    # The proposals, and then stages 1 to L.
    opacity = torch.cat([torch.full_like(scores[:1], PROPOSAL_OPACITY), scores])
    captions = [[""] * boxes.shape[1]]
    for score, label in zip(scores.tolist(), labels.tolist(), strict=True):
        pairs = zip(score, label, strict=True)
        captions.append([f"{detector.class_names[k]} {s:.2f}" if s >= threshold else "" for s, k in pairs])
    photo = Image.fromarray(rearrange(image, "c h w -> h w c").numpy())

    output.parent.mkdir(parents=True, exist_ok=True)
    save_png(draw_stages(photo, boxes, opacity, captions, stages, threshold), output)
    print(printable(f"proposals and stages {stages} of {arguments.image} -> {output}"))

    if arguments.animate:
        frames, durations = zip(*moving_stages(photo, boxes, opacity, captions), strict=True)
        Path(arguments.animate).parent.mkdir(parents=True, exist_ok=True)
        frames[0].save(
            arguments.animate, save_all=True, append_images=frames[1:], duration=list(durations), loop=0
        )
        print(printable(f"{len(scores)} stages in {len(frames)} frames -> {arguments.animate}"))


def visualize_dataset(arguments: argparse.Namespace, detector: Detector, device: torch.device) -> None:
    """Surveys a data set, and draws and writes the results."""
    threshold = arguments.threshold
    if isinstance(model_of(detector).proposals, DenseProposals):
        raise ValueError(
            f"{arguments.checkpoint}: its proposals come from the image, so each image has others. "
            "--data needs learned proposals; give one image instead"
        )
    dataset = load_dataset(arguments.data, arguments.split, None, drop_degenerate=True)
    dataset.exif_orientation, dataset.max_pixels = arguments.exif_orientation, arguments.max_pixels
    num_images = min(arguments.max_images or len(dataset), len(dataset))
    found = survey(detector, dataset, num_images, device, threshold)
    for problem in found.unreadable:
        print(printable(problem))
    used = num_images - len(found.unreadable)
    drift, places, record = (named_after(arguments.output, suffix) for suffix in SURVEYED)
    record.parent.mkdir(parents=True, exist_ok=True)
    numbers = {"images": used, "threshold": threshold, **numbers_of(found)}
    record.write_text(json.dumps(numbers, indent=1))
    plot_drift(drift, found.iou, found.scores)
    counts = [len(boxes) for boxes in found.boxes_norm]
    order = sorted(range(len(counts)), key=lambda proposal: -counts[proposal])[: arguments.max_panels]
    caption = (
        f"centres of the last stage's boxes that score {threshold:g} or more in {used} images, "
        f"and how many they are\nsmall: less than {SMALL_AREA:.0%} of the image"
    )
    plot_places(places, found.learned_norm, found.boxes_norm, found.kinds, order, caption)
    print(printable(f"{used} images -> {drift}, {places}, {record}"))
    refuse_unreadable(len(found.unreadable), num_images, arguments.max_unreadable)


def main() -> None:
    arguments = parse_arguments()
    device = choose_device(arguments.device)
    reading = {"exif_orientation": arguments.exif_orientation, "max_pixels": arguments.max_pixels}
    image = None if arguments.image is None else read_image(arguments.image, **reading)
    kind = file_format(checkpoint_file(arguments.checkpoint))
    if kind != "checkpoint":
        raise ValueError(f"{arguments.checkpoint}: exported as {kind}, but only checkpoints hold all stages")
    sides = arguments.size, arguments.max_size
    detector = load_detector(arguments.checkpoint, device, image_size=sides)
    try:
        if image is not None:
            visualize_image(arguments, detector, image, device)
        if arguments.data:
            visualize_dataset(arguments, detector, device)
    except NotFiniteError as error:
        raise ValueError(f"{arguments.checkpoint}: {error}") from error


if __name__ == "__main__":
    run(main, ValueError, ImportError, OSError)
