"""COCO average precision of a checkpoint on a COCO or Pascal VOC directory.

    python examples/evaluate.py runs/shapes/checkpoint.pth --data data/shapes
    python examples/evaluate.py model_final.pth --data /data/coco --results results.json

The file may be a checkpoint of this library, detectron2 or mmdetection, or what export.py makes of one.
A COCO directory holds `annotations/instances_val2017.json` and `val2017/`; a VOC directory
`ImageSets/Main/val.txt`, `Annotations/` and `JPEGImages/`.
"""

import argparse
import json
import sys
from pathlib import Path

import torch
from parts.detector_file import choose_device, load_detector
from parts.evaluating import can_evaluate, detect_dataset, without_nan
from parts.host_memory import keep_freed_memory
from parts.open_dataset import load_dataset

from sparse_rcnn.data import (
    evaluate_coco,
    evaluation_transform,
    format_metrics,
)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoint", help="file of this library, detectron2, mmdetection or export.py")
    parser.add_argument("--data", required=True, metavar="DIR", help="COCO or VOC directory")
    parser.add_argument(
        "--split", default="val", help="COCO: train or val; VOC: a file of ImageSets/Main (val)"
    )
    parser.add_argument(
        "--size",
        type=int,
        metavar="PX",
        help="shortest side of the images (as stored in the checkpoint, or 800)",
    )
    parser.add_argument(
        "--max-size", type=int, metavar="PX", help="bound of the longest side (as stored, or 1333)"
    )
    parser.add_argument("--batch-size", type=int, default=1, help="images per batch (1)")
    parser.add_argument("--workers", type=int, default=2, help="processes that read images (2)")
    parser.add_argument(
        "--max-detections", type=int, help="per image (100, or as many as it was exported with)"
    )
    parser.add_argument("--results", metavar="FILE", help="write the detections as COCO results here")
    parser.add_argument("--metrics", metavar="FILE", help="write AP and AP per class as JSON here")
    parser.add_argument(
        "--precision",
        choices=("fp32", "bf16"),
        default="fp32",
        help="bf16: faster, scores differ by up to about 0.01 (fp32)",
    )
    parser.add_argument(
        "--compile",
        action="store_true",
        help="compile the detector when the first batch comes, for images of any size: takes minutes",
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    device = choose_device(arguments.device)
    if not can_evaluate() and not arguments.results:
        raise ImportError(
            "evaluation needs pycocotools: pip install pycocotools"
        )  # said before hours of work
    if device.type == "cpu":
        keep_freed_memory()
    detector = load_detector(
        arguments.checkpoint, device, arguments.max_detections, arguments.precision, arguments.compile
    )
    shortest_side = arguments.size or detector.shortest_side
    longest_side = arguments.max_size or detector.longest_side
    transform = evaluation_transform(shortest_side, longest_side)
    dataset = load_dataset(
        arguments.data, arguments.split, transform, drop_degenerate=True, class_names=detector.class_names
    )
    dataset.check_images()
    if dataset.class_names != detector.class_names:
        raise ValueError(
            f"the checkpoint's classes {detector.class_names} are not those of {arguments.data}: "
            f"{dataset.class_names}"
        )
    if dataset.num_dropped:
        print(f"{dataset.num_dropped} annotated boxes have no area: nothing can match them, but they count")
    print(
        f"{len(dataset)} images, {len(dataset.class_names)} classes, "
        f"shortest side {shortest_side}, longest at most {longest_side}, on {device}"
    )
    results = detect_dataset(detector.detect, dataset, device, arguments.batch_size, arguments.workers)
    if arguments.results:
        Path(arguments.results).write_text(json.dumps(results))
        print(f"{len(results)} detections written to {arguments.results}")
    metrics = evaluate_coco(dataset, results)
    print(format_metrics(metrics))
    for name, value in metrics.items():
        if name.startswith("AP/"):
            print(f"  {name[3:]:<20} {value:.3f}")
    if arguments.metrics:
        Path(arguments.metrics).write_text(json.dumps(without_nan(metrics), indent=2))
        print(f"metrics written to {arguments.metrics}")


if __name__ == "__main__":
    try:
        main()
    except (ValueError, ImportError) as error:
        sys.exit(f"error: {str(error).strip().splitlines()[-1]}")
    except torch._dynamo.exc.TorchDynamoException as error:
        sys.exit(f"error: --compile: {str(error).strip().splitlines()[0]}")
