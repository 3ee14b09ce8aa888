"""Says what is in a detector's file: classes, model, sizes, digest.

    python examples/info.py runs/shapes/best.pth
    python examples/info.py detector.onnx --json

The file may be a checkpoint of this library, detectron2 or mmdetection, or what export.py makes of one.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from parts.command_line import CommandLine, printable, run
from parts.detector_options import CHECKPOINT

from sparse_rcnn.inference import file_format
from sparse_rcnn.inference.exported_file import read_exported
from sparse_rcnn.nn import load_checkpoint

OF_RUNS = ("iteration", "seconds", "num_images", "versions")  # what train.py writes besides


def describe(path: Path) -> dict[str, Any]:
    """What the file says of itself, as plain data."""
    kind = "checkpoint" if path.is_dir() else file_format(path)
    if kind != "checkpoint":
        _, metadata = read_exported(path, torch.device("cpu"))
        return {"kind": kind, "bytes": path.stat().st_size, **metadata}
    checkpoint = load_checkpoint(path)
    found: dict[str, Any] = {
        "kind": f"checkpoint of {checkpoint.layout}",
        "parameters": sum(value.numel() for value in checkpoint.weights.values()),
        "class_names": checkpoint.class_names or checkpoint.config.num_classes,
        "category_ids": checkpoint.category_ids,
        **checkpoint.image_size._asdict(),
        **checkpoint.config.to_dict(),
        **{name: whole(checkpoint.content[name]) for name in OF_RUNS if name in checkpoint.content},
        "digest": checkpoint.content.get("digest"),
        **figures_of(path, checkpoint.content.get("iteration")),
    }
    return {**found, "remarks": checkpoint.remarks}


def whole(value: Any) -> Any:
    """Seconds without their fractions."""
    return round(value) if isinstance(value, float) else value


def figures_of(path: Path, iteration: int | None) -> dict[str, float]:
    """AP of that iteration in the journal of the run, if the file is in a run's folder."""
    folder = path if path.is_dir() else path.resolve().parent
    for journal in (folder / "metrics.jsonl", folder.parent / "metrics.jsonl"):
        entries = map(json.loads, journal.read_text().splitlines()) if journal.is_file() else ()
        for entry in entries:
            if iteration is not None and entry.get("iteration") == iteration and "AP" in entry:
                return {name: entry[name] for name in ("AP", "AP50") if name in entry}
    return {}


def parse_arguments() -> argparse.Namespace:
    parser = CommandLine(__doc__)
    parser.add_argument("checkpoint", help=f"{CHECKPOINT}; or a file of export.py")
    parser.add_argument("--json", action="store_true", help="print it as JSON")
    arguments: argparse.Namespace = parser.parse_args()
    return arguments


def main() -> None:
    arguments = parse_arguments()
    found = describe(Path(arguments.checkpoint))
    if arguments.json:
        print(json.dumps(found, indent=2))
        return
    for name, value in found.items():
        if isinstance(value, (list, dict)):
            value = value.items() if isinstance(value, dict) else value
            value = ", ".join(" ".join(map(str, x)) if isinstance(x, tuple) else str(x) for x in value)
        value = f"{value:.3f}" if isinstance(value, float) else value
        print(f"{name.replace('_', ' '):<21} {printable('-' if value is None or value == '' else value)}")


if __name__ == "__main__":
    run(main, ValueError, ImportError, OSError)
