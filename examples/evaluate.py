"""COCO average precision of a checkpoint on a data set.

    python examples/evaluate.py runs/shapes/best.pth --data data/shapes
    python examples/evaluate.py model_final.pth --data /data/coco --results results.json
    python examples/evaluate.py runs/mine/best.pth --data /data/mine --report report

The file may be a checkpoint of this library, detectron2 or mmdetection, or what export.py makes of one.
The data set may have any layout that load_dataset knows. If there is no such split, the error lists all.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from parts.command_line import CommandLine, printable, run
from parts.detector_options import (
    CHECKPOINT,
    add_device_option,
    add_size_options,
    add_speed_options,
    refuse_below_one,
)
from parts.evaluating import can_evaluate, shown, without_nan
from parts.evaluation_tables import format_classes, format_errors, format_other, other_figures
from parts.host_memory import keep_freed_memory
from parts.image_options import add_image_options, refuse_unreadable
from parts.open_dataset import DATA, load_dataset
from parts.outputs import check_outputs
from parts.precision import set_precision
from parts.reader import at_most_one_a_core
from parts.report.report import Evaluated, write_report
from parts.report.thumbnails import refuse_own_photos

from sparse_rcnn.data import (
    Analysis,
    DetectionDataset,
    UnreadableImageError,
    analyse,
    evaluate_coco,
    evaluation_transform,
    format_metrics,
)
from sparse_rcnn.data.evaluation import EVALUATORS
from sparse_rcnn.data.formats.counted import counted
from sparse_rcnn.inference import Detector, category_ids_of, choose_device, detect_dataset, load_detector


def parse_arguments() -> argparse.Namespace:
    parser = CommandLine(__doc__)
    parser.add_argument("checkpoint", help=f"{CHECKPOINT}; or a file of export.py")
    parser.add_argument("--data", required=True, metavar="PATH", help=DATA)
    parser.add_argument(
        "--split",
        default="val",
        help="split of the data set, such as test. For images that a training run held out: its split.json, "
        "or their share (val)",
    )
    add_size_options(parser)
    parser.add_argument("--batch-size", type=int, default=1, help="images per batch (1)")
    workers = at_most_one_a_core(2)
    parser.add_argument(
        "--workers", type=int, default=workers, help=f"processes that read images ({workers})"
    )
    parser.add_argument(
        "--max-detections",
        type=int,
        metavar="N",
        help="detections per image, and those of a class that count in AP and AR (100, as in COCO; of an "
        "exported file, its own number)",
    )
    parser.add_argument(
        "--classes",
        nargs="+",
        metavar="NAME",
        help="evaluate only these classes. Checkpoint and data set must have them (all of the data set)",
    )
    add_image_options(parser)
    add_output_options(parser)
    parser.add_argument(
        "--evaluator",
        choices=tuple(EVALUATORS),
        default="pycocotools",
        help="faster_coco_eval: the same figures in a fifth of the time, if faster-coco-eval is installed "
        "(pycocotools)",
    )
    add_speed_options(parser)
    add_device_option(parser)
    arguments: argparse.Namespace = parser.parse_args()
    refuse_below_one(arguments, "size", "max_size", "batch_size", "max_detections")
    for name in ("results", "metrics"):  # before hours of work
        path = getattr(arguments, name)
        if path and not Path(path).absolute().parent.is_dir():
            raise ValueError(f"--{name} {path}: there is no such directory")
    files = {f"--{name}": getattr(arguments, name) for name in ("results", "metrics")}
    inputs = (arguments.checkpoint, arguments.against, arguments.data, arguments.split)
    check_outputs(files, inputs, folders={"--report": arguments.report})
    if arguments.against and not arguments.report:
        raise ValueError("--against needs --report DIR: the report shows the comparison")
    if not can_evaluate(arguments.evaluator) and not arguments.results:
        needed = EVALUATORS[arguments.evaluator]
        raise ImportError(f"evaluation needs {needed}: pip install {needed}")
    return arguments


def add_output_options(parser: argparse.ArgumentParser) -> None:
    """What is written."""
    parser.add_argument("--results", metavar="FILE", help="write the detections as COCO results here")
    parser.add_argument("--metrics", metavar="FILE", help="write AP and AP per class as JSON here")
    parser.add_argument(
        "--report",
        metavar="DIR",
        help="write report.html here, and small photos beside it: curves, confusions, errors, worst photos",
    )
    parser.add_argument(
        "--against", metavar="CHECKPOINT", help="another detector. The report compares the two"
    )


def open_data(arguments: argparse.Namespace, detector: Detector) -> DetectionDataset:
    """The data set. What is unusual in it is printed."""
    transform = evaluation_transform(detector.shortest_side, detector.longest_side)
    dataset = load_dataset(
        arguments.data,
        arguments.split,
        transform,
        drop_degenerate=True,
        allow_missing=True,
        exif_orientation=arguments.exif_orientation,
        max_pixels=arguments.max_pixels,
    )
    try:
        dataset.check_images()
    except UnreadableImageError as error:
        print(printable(f"{error}; left out of the figures"))
    if dataset.num_dropped:
        said = counted(dataset.num_dropped, "annotated box has", "annotated boxes have")
        print(f"{said} no area: nothing can match such a box, but it counts as an object")
    return dataset


def evaluate(
    arguments: argparse.Namespace,
    dataset: DetectionDataset,
    results: list[dict[str, Any]],
    left_out: dict[int, str],
    category_ids: list[int],
) -> tuple[dict[str, float], Analysis]:
    """COCO's figures, and the analysis, of the images that can be read."""
    most = arguments.max_detections or 100
    readable = [image for image in dataset.image_ids if image not in left_out]
    metrics = evaluate_coco(dataset, results, most, readable, category_ids, arguments.evaluator)
    analysis = analyse(dataset, results, max_detections=most, image_ids=readable, category_ids=category_ids)
    return metrics, analysis


def show(
    arguments: argparse.Namespace,
    metrics: dict[str, float],
    analysis: Analysis,
    others: dict[str, dict[str, float]],
    left_out: dict[int, str],
) -> None:
    """Writes the figures, and then prints them."""
    most = arguments.max_detections or 100
    if arguments.metrics:
        record = {**without_nan({**metrics, **others}), "max_detections": most, "left_out": len(left_out)}
        Path(arguments.metrics).write_text(json.dumps(record, indent=2))
    print(format_metrics(metrics, most))
    print(f"\n{format_classes(analysis)}\n\n{format_errors(analysis)}")
    for line in format_other(others, most):
        print(line)
    if arguments.metrics:
        print(printable(f"metrics written to {arguments.metrics}"))


def load(arguments: argparse.Namespace, checkpoint: str) -> Detector:
    device = choose_device(arguments.device)
    return load_detector(
        checkpoint,
        device,
        set_precision(arguments, device),
        arguments.compile,
        max_detections=arguments.max_detections,
        image_size=(arguments.size, arguments.max_size),
    )


def detect(
    arguments: argparse.Namespace,
    detector: Detector,
    dataset: DetectionDataset,
    ids_of_labels: list[int | None],
    left_out: dict[int, str],
) -> list[dict[str, Any]]:
    """What the detector finds in the data set; images that cannot be read go to `left_out`."""
    return detect_dataset(
        detector.detect,
        dataset,
        detector.device,
        arguments.batch_size,
        arguments.workers,
        unreadable=left_out,
        category_ids=ids_of_labels,
        **shown(),
    )


def load_other(
    arguments: argparse.Namespace, dataset: DetectionDataset, category_ids: list[int]
) -> tuple[Detector, list[int | None]]:
    """The detector of --against, and the category id of each of its labels."""
    other = load(arguments, arguments.against)
    try:
        ids_of_labels = category_ids_of(other.class_names, dataset, arguments.classes)
    except ValueError as error:
        raise ValueError(f"--against {arguments.against}: {error}") from error
    if {*ids_of_labels} - {None} != {*category_ids}:
        raise ValueError(f"--against {arguments.against} has other classes: give common ones as --classes")
    return other, ids_of_labels


def names_of(*files: str | None) -> list[str]:
    """What the report calls the files, of which one may be a folder such as "."; with folders if needed."""
    paths = [Path(file).absolute() for file in files if file is not None]
    names = [path.name for path in paths]
    return names if len({*names}) == len(names) else ["/".join(path.parts[-2:]) for path in paths]


def compared(
    arguments: argparse.Namespace,
    dataset: DetectionDataset,
    left_out: dict[int, str],
    category_ids: list[int],
    first: Evaluated,
    first_results: list[dict[str, Any]],
    other: tuple[Detector, list[int | None]],
) -> list[Evaluated]:
    """The first file and --against, both on the same images."""
    detector, ids_of_labels = other
    dataset.transform = evaluation_transform(detector.shortest_side, detector.longest_side)
    before = {*left_out}
    results = detect(arguments, detector, dataset, ids_of_labels, left_out)
    if len(left_out) == len(dataset):
        raise ValueError(f"--against {arguments.against}: the images can no longer be read")
    if late := left_out.keys() - before:
        print(printable(f"left out of the report: {'; '.join(left_out[image] for image in sorted(late))}"))
        figures = evaluate(arguments, dataset, first_results, left_out, category_ids)
        first = Evaluated(first.name, *figures)
    _, name = names_of(arguments.checkpoint, arguments.against)
    second = Evaluated(name, *evaluate(arguments, dataset, results, left_out, category_ids))
    metrics = second.metrics
    print(printable(f"{arguments.against}: AP {metrics['AP']:.3f}, AP50 {metrics['AP50']:.3f}"))
    return [first, second]


def report(
    arguments: argparse.Namespace,
    dataset: DetectionDataset,
    left_out: dict[int, str],
    category_ids: list[int],
    figures: tuple[dict[str, float], Analysis],
    first_results: list[dict[str, Any]],
    other: tuple[Detector, list[int | None]] | None,
) -> None:
    """Writes the report, of the first file and of --against; of the first alone if the other fails.

    Raises:
        ValueError: Then, after the report is written.
    """
    names = names_of(arguments.checkpoint, arguments.against)
    evaluated = [Evaluated(names[0], *figures)]
    failed: ValueError | None = None
    if other is not None:
        try:
            evaluated = compared(
                arguments, dataset, left_out, category_ids, evaluated[0], first_results, other
            )
        except ValueError as error:  # hours of work come before
            failed = error
    title = f"{names[0]} on {Path(arguments.data).absolute().name}, {arguments.split}"
    page, problems = write_report(Path(arguments.report), title, dataset, evaluated)
    for problem in problems:
        print(printable(f"not in the report: {problem}"))
    print(printable(f"report written to {page}"))
    if failed is not None:
        raise ValueError(f"the report is of {names[0]} alone: {failed}") from failed


def main() -> None:
    arguments = parse_arguments()
    device = choose_device(arguments.device)
    if device.type == "cpu":
        keep_freed_memory()
    detector = load(arguments, arguments.checkpoint)
    dataset = open_data(arguments, detector)
    if arguments.report:
        refuse_own_photos(dataset, Path(arguments.report))
    ids_of_labels = category_ids_of(detector.class_names, dataset, arguments.classes)
    category_ids = [category for category in ids_of_labels if category is not None]
    print(
        f"{counted(len(dataset), 'image', 'images')}, {counted(len(category_ids), 'class', 'classes')}, "
        f"shortest side {detector.shortest_side}, longest at most {detector.longest_side}, on {device}"
    )
    if len(category_ids) < len(detector.class_names):
        print(
            f"the checkpoint has {len(detector.class_names)} classes: what it detects of the others is left "
            "out, after the best detections of each image have been taken"
        )
    other = load_other(arguments, dataset, category_ids) if arguments.against else None
    left_out: dict[int, str] = {}
    results = detect(arguments, detector, dataset, ids_of_labels, left_out)
    if arguments.results:
        Path(arguments.results).write_text(json.dumps(results))
        print(printable(f"{len(results)} detections written to {arguments.results}"))
    for problem in left_out.values():
        print(printable(problem))
    if left_out:
        print(f"{len(left_out)} of {len(dataset)} images could not be read: the figures are of the others")
    if len(left_out) == len(dataset):
        raise ValueError(f"{arguments.data}: none of its images could be read")
    metrics, analysis = evaluate(arguments, dataset, results, left_out, category_ids)
    most, readable = arguments.max_detections or 100, analysis.boxes.image_ids.tolist()
    others = other_figures(dataset, results, most, readable, category_ids)
    show(arguments, metrics, analysis, others, left_out)
    if arguments.report:
        report(arguments, dataset, left_out, category_ids, (metrics, analysis), results, other)
    refuse_unreadable(len(left_out), len(dataset), arguments.max_unreadable)


if __name__ == "__main__":
    try:
        run(main, ValueError, ImportError, OSError)
    except torch._dynamo.exc.TorchDynamoException as error:
        raise SystemExit(f"error: --compile: {printable(str(error).strip().splitlines()[0])}") from error
