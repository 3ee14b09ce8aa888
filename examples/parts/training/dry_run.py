"""The dry run: measures a step and checks everything, without writing anything."""

import argparse
import math
import time
from pathlib import Path

from parts.command_line import printable
from parts.training.batches import Batches, move
from parts.training.checkpoint_files import CheckpointDirectory
from parts.training.forward_backward import ForwardBackward
from parts.training.length import duration
from parts.training.memory import most_memory
from parts.training.processes import Processes
from parts.training.readable_samples import is_gone
from parts.training.training_data import pad_to_largest
from parts.training.training_state import TrainingState
from sparse_rcnn.data import Batch, DetectionDataset, UnreadableImageError, collate
from sparse_rcnn.data.formats.counted import counted
from sparse_rcnn.inference import detect_batch
from sparse_rcnn.nn import EndToEndDetector


def dry_run(
    arguments: argparse.Namespace,
    processes: Processes,
    batches: Batches,
    training_set: DetectionDataset,
    validation_set: DetectionDataset,
    state: TrainingState,
    step: ForwardBackward,
) -> None:
    """Runs one step of the largest size and one evaluation batch. Prints their time and memory.

    Raises:
        ValueError: On all processes, if something cannot work.
    """
    batch, problems = next(batches)
    if is_gone(problems):
        raise ValueError(problems[-1])
    for problem in problems:
        print(printable(f"{problem}; another image replaces it"))
    batch = pad_to_largest(batch, training_set, max(arguments.sizes), arguments.max_size, arguments.crop)
    loss, norm, seconds = _one_step(batch, state, step, processes)
    seconds *= arguments.accumulate
    state.evaluated.eval()
    samples = []
    for index in range(min(arguments.eval_batch_size, len(validation_set))):
        try:
            samples.append(validation_set[index])
        except UnreadableImageError as error:
            print(printable(f"{error}; the evaluation leaves this image out"))
    if samples:
        detect_batch(EndToEndDetector(state.evaluated), collate(samples), processes.device)

    if processes.rank == 0:
        height, width = batch.images.shape[2:]
        print(
            f"one step of {len(batch.images)} images per device, padded to the largest possible size "
            f"({height} x {width}): loss {loss:.2f}, gradient norm {norm:.2f}, {seconds:.1f} s with warm-"
            f"up, {most_memory(processes.device) / 1e9:.2f} GB at most"
        )
        steps = counted(arguments.iterations, "step", "steps")
        print(f"{steps} at this rate: at most {duration(seconds * arguments.iterations)}")
    if not (math.isfinite(loss) and math.isfinite(norm)):
        raise ValueError(f"the loss is {loss} and the gradient's norm {norm}")
    if processes.rank == 0:
        kept = arguments.keep_checkpoints + 1
        checkpoints = CheckpointDirectory(Path(arguments.output), arguments.keep_checkpoints)
        needed = state.num_bytes() * kept
        place, free = checkpoints.room()
        print(f"checkpoints: {needed / 1e9:.2f} GB of the {free / 1e9:.1f} GB free in {place}")
        if needed > free:
            raise ValueError(f"the disk of {place} has no room for {kept} checkpoints")
        print("dry run: no problem was found, and nothing was written to the output directory")


def _one_step(
    batch: Batch, state: TrainingState, step: ForwardBackward, processes: Processes
) -> tuple[float, float, float]:
    """Loss and gradient norm over all processes, and seconds. In fp16, a step with overflow is repeated."""
    num_targets = processes.sum(batch.targets.valid.sum().float().to(processes.device))
    while True:
        state.begin()
        began = time.perf_counter()
        losses, _ = step([move(batch, processes.device)], num_targets)
        norm = state.clip().item()
        loss = processes.sum(losses)[0].item()  # the same on all processes
        if math.isfinite(norm) or not math.isfinite(loss) or not state.looks_for_scale():
            break
        state.skip()
    state.advance()
    return loss, norm, time.perf_counter() - began
