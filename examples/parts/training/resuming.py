"""Whether a run goes on with a checkpoint: which one, and what must be the same."""

import argparse
from pathlib import Path
from typing import Any

from parts.open_dataset import FILES
from parts.training.arguments import parse_arguments, settings
from parts.training.checkpoint_checks import check_resumable
from parts.training.checkpoint_files import CheckpointDirectory
from parts.training.processes import Processes, begun_by_this_launch
from sparse_rcnn.nn import read_checkpoint
from sparse_rcnn.nn.checkpoints.checkpoint import validate_checkpoint

# Options that may differ in a resumed run: they say where and how often, not what is computed ...
FREE = {
    *("data", *FILES, "shapes_dir", "output", "resume", "dry_run", "device", "workers", "keep_checkpoints"),
    *("accumulate", "recompute_head", "recompute_backbone", "freed_memory"),
    *("checkpoint_interval", "checkpoint_minutes", "log_interval", "eval_interval", "eval_batch_size"),
    *("max_bad_batches", "max_unreadable", "compile", "logger"),
}
# ... and more options that may differ with --resume.
LENGTH = {"iterations", "epochs", "minutes", "steps", "warmup", "patience"}
SAME_DATA = "give the same images and classes, or start a new run with --no-resume"


def find_run(
    arguments: argparse.Namespace, checkpoints: CheckpointDirectory, processes: Processes
) -> tuple[Path | None, str]:
    """The checkpoint to resume, or the reason why the run is not resumed. The same on all processes."""
    path, reason, chosen = None, "", arguments.precision
    if processes.rank == 0:
        path = checkpoints.find_newest(print, repair=not arguments.dry_run)
        if arguments.resume and path is None:
            raise ValueError(
                f"{checkpoints.output}: there is no checkpoint to resume; name the run by --output, or leave "
                "out --resume"
            )
        # torchrun starts all processes again if one of them dies. Then they resume their run.
        goes_on = arguments.resume or begun_by_this_launch(checkpoints.output)
        if path is not None and not goes_on and arguments.resume is False:
            reason = "--no-resume"
        elif path is not None and not goes_on and (checkpoints.output / "summary.json").exists():
            reason = "complete"
        elif path is not None:
            before = read_run(path)["arguments"]
            keep_measured(before, arguments)
            reason = "" if goes_on else "; ".join(differences(before, arguments))
        if reason:
            path, arguments.precision = None, chosen
        elif arguments.table and arguments.precision != chosen:
            arguments.table += f"\n  but --precision {arguments.precision}, with which the run began"
    path, reason, arguments.precision = processes.from_first((path, reason, arguments.precision))
    return path, reason


def keep_measured(before: dict[str, Any], arguments: argparse.Namespace) -> None:
    """Keeps the precision of a run that the recipe measured. Measured again, it may be another one."""
    is_measured = arguments.recipe == "small" and "precision" not in arguments.given
    if is_measured and before.get("precision") in ("fp32", "bf16"):
        arguments.precision = before["precision"]


def read_resumed(
    path: Path,
    arguments: argparse.Namespace,
    class_names: list[str],
    num_images: int,
    digests: dict[str, str],
) -> dict[str, Any]:
    """The checkpoint of a run with the same options, classes and images."""
    if not path.is_file():
        raise ValueError(f"{path} is not there: all processes must share the output directory")
    checkpoint = read_run(path)
    if reasons := differences(checkpoint["arguments"], arguments):
        raise ValueError(
            f"{'; '.join(reasons)}: give the same to resume, or start a new run with --no-resume or --weights"
        )
    for name, now in (("class_names", class_names), ("num_images", num_images)):
        before = checkpoint.get(name, now)
        if before != now:
            raise ValueError(f"{path} is of other data: {name} was {before}, not {now}; {SAME_DATA}")
    for name, before in checkpoint.get("data", {}).items():
        if name.endswith("images") and digests.get(name) != before:
            raise ValueError(
                f"{path} is of other data: the names of the {name} are not those with which the run began; "
                f"{SAME_DATA}"
            )
    if checkpoint["iteration"] > arguments.iterations and not arguments.minutes:
        raise ValueError(
            f"{path} is at iteration {checkpoint['iteration']}, after --iterations {arguments.iterations}"
        )
    return checkpoint


def other_boxes(checkpoint: dict[str, Any], digests: dict[str, str]) -> str:
    """A remark if annotations have changed since the checkpoint was written. The run takes the new ones."""
    before = checkpoint.get("data", {})
    changed = [name for name in before if name.endswith("boxes") and digests.get(name) != before[name]]
    if not changed:
        return ""
    return (
        f"since iteration {checkpoint['iteration']}, annotations have changed ({', '.join(changed)}): the "
        "run goes on with the new ones. --no-resume starts anew"
    )


def read_run(path: Path) -> dict[str, Any]:
    """Reads a checkpoint of train.py, to continue its run.

    Raises:
        ValueError: If it is damaged, was not written by train.py, or its parts do not fit together.
    """
    content = read_checkpoint(path)
    if "optimizer" not in content:
        raise ValueError(f"{path} was not written by train.py, so it cannot be resumed: give it as --weights")
    try:
        check_resumable(validate_checkpoint(content))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return content


def differences(before: dict[str, Any], arguments: argparse.Namespace) -> list[str]:
    """The options that change the computation and differ from an earlier run: "--seed was 0, not 1"."""
    now = settings(arguments)
    # Options that an earlier version did not have count as their defaults.
    words = ["--data", before["data"]] if before.get("data") else []
    before = {
        **settings(parse_arguments(None, words)),
        "backbone_multiplier": 1.0,
        "class_targets": "one",
        **before,
    }
    if arguments.resume:
        free = FREE | LENGTH
    elif before.get("iterations") != now["iterations"]:
        free = FREE | LENGTH - {"iterations"}  # the others follow from the iterations
    else:
        free = FREE
    if arguments.minutes is not None:
        free = free | {"iterations", "steps"}  # they follow from the speed of the machine
    return [
        f"--{key.replace('_', '-')} was {before[key]}, not {now[key]}"
        for key in sorted(now.keys() - free)
        if before[key] != now[key]
    ]
