"""Trains Sparse R-CNN, evaluates it, and draws what it finds.

Without --data: a small model on the built-in shapes, from scratch, in a few minutes on two CPU cores.

    python examples/train.py

With --data: the paper's recipe (ResNet-50, 100 proposals, 36 epochs of COCO, 16 images a step in total) on a
COCO directory (`annotations/`, `train2017/`, `val2017/`) or a Pascal VOC one (`ImageSets/Main/train.txt` and
`val.txt`, `Annotations/`, `JPEGImages/`), on one device or several, with the same images in every step.

    torchrun --nproc-per-node 8 --max-restarts 3 examples/train.py --data /data/coco --drop-degenerate-boxes
    python examples/train.py --data /data/mine --weights r50_100pro_3x_model.pth --iterations 2000

Interrupted, by Ctrl-C, SIGTERM or worse, it goes on from the last whole checkpoint when the same command is
given again.

The output directory gets checkpoint.pth (the newest of checkpoints/), metrics.jsonl, training.png,
predictions.png, pictures/, progress/, summary.json and TensorBoard's files; bad_batches/ if there are any.
"""

import argparse
import json
import math
import resource
import shutil
import sys
import time
from contextlib import ExitStack, closing, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import numpy
import torch
import torchvision
from parts.detector_file import Detector, detect_batch
from parts.evaluating import can_evaluate, without_nan
from parts.host_memory import keep_freed_memory, return_freed_memory
from parts.reader import outlive_signals, read_all
from parts.training.arguments import MAX_UNREADABLE, differences, parse_arguments, settings
from parts.training.bad_batches import BadBatches
from parts.training.checkpoints import CheckpointDirectory, lock, read_run, set_aside
from parts.training.data import check_data, load_data, pad_to_largest
from parts.training.evaluation import detect_together, metrics_of
from parts.training.journal import Journal
from parts.training.model import build_model
from parts.training.pictures import draw_predictions, sheet_of
from parts.training.processes import LAUNCH, Processes, begun_by_this_launch, joined, launch_name
from parts.training.random_states import random_states, restore_random_states, seed_everything
from parts.training.samples import ReadableSamples, collate_readable, is_gone, is_gone_problem
from parts.training.state import TrainingState
from parts.training.step import (
    TrainingStep,
    compile_step,
    leave_open,
    loss_vector,
    matched_iou,
    recompute_backbone,
    recompute_head,
)
from parts.training.stop import Stop, StopRequestedError, stop_on_signal
from PIL.Image import Image
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader

import sparse_rcnn
from sparse_rcnn.data import (
    Batch,
    SeededDataset,
    Targets,
    TrainingSampler,
    UnreadableImageError,
    collate,
    format_metrics,
)
from sparse_rcnn.nn import EndToEndDetector
from sparse_rcnn.nn.head import Predictions


def find_run(
    arguments: argparse.Namespace, checkpoints: CheckpointDirectory, processes: Processes
) -> tuple[Path | None, str]:
    """The checkpoint to go on with, or why the run that is there is set aside; the same on all processes."""
    path, reason = None, ""
    if processes.rank == 0:
        path = checkpoints.find_newest(print, repair=not arguments.dry_run)
        if arguments.resume and path is None:
            raise ValueError(f"{checkpoints.output}: there is no checkpoint to resume")
        # torchrun starts all processes again when one of them died: they go on with what they began.
        if path is not None and not arguments.resume and not begun_by_this_launch(checkpoints.output):
            if arguments.resume is False:
                reason = "--no-resume"
            elif (checkpoints.output / "summary.json").exists():
                reason = "complete"
            else:
                reason = "; ".join(differences(read_run(path)["arguments"], arguments))
    return processes.from_first((None if reason else path, reason))


def read_resumed(
    path: Path, arguments: argparse.Namespace, class_names: list[str], num_images: int
) -> dict[str, Any]:
    """The checkpoint of a run that is of the same options and data as this one."""
    if not path.is_file():
        raise ValueError(f"{path} is not there: all processes must share the output directory")
    checkpoint = read_run(path)
    if reasons := differences(checkpoint["arguments"], arguments):
        raise ValueError(
            f"{'; '.join(reasons)}: give the same to resume, or start anew with --no-resume or --weights"
        )
    for name, now in (("class_names", class_names), ("num_images", num_images)):
        before = checkpoint.get(name, now)
        if before != now:
            raise ValueError(f"{path} is of other data: {name} was {before}, not {now}")
    if checkpoint["iteration"] > arguments.iterations:
        raise ValueError(
            f"{path} is at iteration {checkpoint['iteration']}, after --iterations {arguments.iterations}"
        )
    return checkpoint


def move(batch: Batch, device: torch.device) -> Batch:
    """Images, sizes and targets on the device."""
    return batch._replace(
        images=batch.images.to(device, non_blocking=True),
        image_sizes=batch.image_sizes.to(device, non_blocking=True),
        targets=Targets(*(part.to(device, non_blocking=True) for part in batch.targets)),
    )


def memory_in_gb(device: torch.device) -> float:
    """The most that this process has held at a time: on a GPU, or in main memory."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


def train(arguments: argparse.Namespace, processes: Processes, stop: Stop, stack: ExitStack) -> None:
    rank, device = processes.rank, processes.device
    began = time.perf_counter()
    seed_everything(arguments.seed)
    parts_per_step = processes.world_size * arguments.accumulate
    if arguments.batch_size % parts_per_step != 0:
        raise ValueError(
            f"--batch-size {arguments.batch_size} cannot be shared by {processes.world_size} processes with "
            f"--accumulate {arguments.accumulate}"
        )
    output = Path(arguments.output)
    checkpoints = CheckpointDirectory(output, arguments.keep_checkpoints)
    if rank == 0 and output.is_dir() and not arguments.dry_run:
        stack.enter_context(lock(output))
    resumed, not_resumed = find_run(arguments, checkpoints, processes)

    # Data: everything that can be wrong with it is found here, before training starts.
    tolerant = arguments.max_unreadable is not None or resumed is not None
    if rank > 0:
        processes.wait()  # rank 0 first: it draws the shapes and looks at every file
    training_set, validation_set = load_data(arguments, tolerant)
    if rank == 0:
        check_data({"train": training_set, "val": validation_set}, tolerant)
        if not can_evaluate():
            print("pycocotools is not installed: no figures such as AP, only nan; pip install pycocotools")
        processes.wait()
    class_names = training_set.class_names

    # Model, and what trains it; then on from where a checkpoint ends.
    checkpoint: dict[str, Any] | None = None
    if resumed is not None:
        checkpoint = read_resumed(resumed, arguments, class_names, len(training_set))
    model, config = build_model(arguments, class_names, checkpoint, rank)
    model = model.to(device).to(memory_format=torch.channels_last)
    state = TrainingState(model, arguments, device)
    bad_batches = BadBatches(output / "bad_batches", arguments.max_bad_batches, processes)
    start, unreadable = 0, set[str]()
    if checkpoint is not None:
        start = checkpoint["iteration"]
        began -= checkpoint.get("seconds", 0.0)
        state.load(checkpoint)
        bad_batches.total, unreadable = checkpoint.get("skipped", 0), set(checkpoint.get("unreadable", ()))
        bad_batches.in_a_row = checkpoint.get("skipped_in_a_row", 0)
        states = checkpoint.get("random_states", [])
        if rank < len(states):
            restore_random_states(states[rank], device)
        if rank == 0:
            print(f"resuming at iteration {start} from {resumed}")
            if checkpoint["arguments"]["iterations"] != arguments.iterations:
                print(f"the schedule is now that of {arguments.iterations} iterations")
        del checkpoint
    if arguments.recompute_head:
        recompute_head(model)
    if arguments.recompute_backbone:
        recompute_backbone(model)
    step = TrainingStep(model)
    if arguments.compile:
        compile_step(step, arguments.compile)
    network: Any = step
    if processes.world_size > 1:
        network = DistributedDataParallel(
            step,
            device_ids=[device.index] if device.type == "cuda" else None,
            gradient_as_bucket_view=True,
        )
    if rank == 0:
        print(
            f"{config['backbone']}, {sum(p.numel() for p in model.parameters()) / 1e6:.1f} M parameters, on "
            f"{processes.world_size} x {device}, {arguments.batch_size // parts_per_step} images at a time, "
            f"{arguments.batch_size} a step; output in {output}"
        )

    # Which images come when and how they are augmented is a function of the seed and the iteration alone.
    loader = DataLoader(
        ReadableSamples(SeededDataset(training_set, arguments.seed)),
        batch_sampler=TrainingSampler(
            training_set.image_sizes,
            arguments.batch_size,
            arguments.seed,
            rank,
            processes.world_size,
            arguments.accumulate,
            arguments.group_size,
            start,
        ),
        # In blocks of 16, targets of all images make a few shapes, not one for every number of objects.
        collate_fn=partial(collate_readable, target_divisor=16 if arguments.compile else 1),
        num_workers=arguments.workers,
        worker_init_fn=outlive_signals,
        generator=torch.Generator(),  # of its own: not the one whose state a checkpoint holds
        pin_memory=device.type == "cuda",
    )
    batches = read_all(loader)
    stack.enter_context(closing(batches))
    detect = EndToEndDetector(state.evaluated)
    detector = Detector(detect, class_names, arguments.eval_size, arguments.max_size)

    def forward_backward(batch: Batch, num_targets: Tensor, last: bool) -> tuple[Tensor, Predictions]:
        """Adds the gradients of one part of a step; processes exchange them with the last."""
        if arguments.compile and arguments.data:  # the shapes have one size
            leave_open(batch.images, *batch.targets)
        dtype = torch.float16 if arguments.precision == "fp16" else torch.bfloat16
        with nullcontext() if last or processes.world_size == 1 else network.no_sync():
            with torch.autocast(device.type, dtype, enabled=arguments.precision != "fp32"):
                losses, predictions = network(batch.images, batch.image_sizes, *batch.targets, num_targets)
            # Times world_size: the gradients of a step add up, and DistributedDataParallel takes their mean.
            state.scaler.scale(losses.total * processes.world_size).backward()
        return loss_vector(losses), predictions

    model.train()
    if arguments.dry_run:
        batch, problems = next(batches)
        batch = pad_to_largest(batch, training_set, max(arguments.sizes), arguments.max_size, arguments.crop)
        if is_gone(problems):
            raise ValueError(problems[-1])
        num_targets = batch.targets.valid.sum().to(device)
        while True:
            state.begin()
            first = time.perf_counter()
            losses, _ = forward_backward(move(batch, device), num_targets, last=True)
            gradient_norm = state.clip().item()
            looks_for_scale = state.scaler.is_enabled() and state.scaler.get_scale() >= 1
            if math.isfinite(gradient_norm) or not math.isfinite(losses[0].item()) or not looks_for_scale:
                break
            state.skip()
        state.advance()
        seconds = (time.perf_counter() - first) * arguments.accumulate
        count = min(arguments.eval_batch_size, len(validation_set))
        state.evaluated.eval()
        detect_batch(detect, collate([validation_set[index] for index in range(count)]), device)
        size = sum(
            tensor.numel() * tensor.element_size()
            for tensor in [*model.state_dict().values(), *state.parameters, *state.parameters]
        )
        if rank == 0:
            report_dry_run(
                arguments, batch, losses[0].item(), gradient_norm, seconds, size, output, device, problems
            )
        return

    if rank == 0:
        if not_resumed:  # only now: a command that is wrong must not move what is there
            print(f"{output} holds a run already, which is now {set_aside(output)} ({not_resumed})")
        output.mkdir(parents=True, exist_ok=True)
        stack.enter_context(lock(output))
        if name := launch_name():
            (output / LAUNCH).write_text(name)
        if start < arguments.iterations:
            (output / "summary.json").unlink(missing_ok=True)
    journal = Journal(output if rank == 0 else None, start, arguments.iterations, rank)
    stack.callback(journal.close)  # however this ends

    def save(iteration: int, needed: bool = False) -> int:
        """Writes a checkpoint; a disk that is full ends the run only where there is no later chance.

        Returns the iteration of the checkpoint, or -1 if it could not be written.
        """
        saved = iteration
        states = processes.gather(random_states(device))
        if rank != 0:
            return processes.from_first(saved)
        try:
            checkpoints.save(
                {
                    **state.to_checkpoint(),
                    "config": config,
                    "class_names": class_names,
                    "category_ids": training_set.category_ids,
                    "image_size": {
                        "shortest_side": arguments.eval_size,
                        "longest_side": arguments.max_size,
                    },
                    "iteration": iteration,
                    "seconds": time.perf_counter() - began,
                    "num_images": len(training_set),
                    "skipped": bad_batches.total,
                    "skipped_in_a_row": bad_batches.in_a_row,
                    "unreadable": sorted(unreadable),
                    "random_states": states,
                    "arguments": settings(arguments),
                    "versions": {
                        "sparse_rcnn": sparse_rcnn.__version__,
                        "torch": str(torch.__version__),
                        "torchvision": str(torchvision.__version__),
                        "numpy": numpy.__version__,
                    },
                },
                iteration,
            )
        except OSError as error:
            if needed:
                raise ValueError(f"cannot write the checkpoint of iteration {iteration}: {error}") from error
            journal.say(f"cannot write the checkpoint of iteration {iteration}: {error}; training goes on")
            saved = -1
        return processes.from_first(saved)

    def evaluate(iteration: int) -> tuple[dict[str, float], dict[str, Image]]:
        """Metrics and pictures of what the model finds by now, on rank 0."""
        results = detect_together(
            state.evaluated,
            detect,
            validation_set,
            arguments.eval_batch_size,
            arguments.workers,
            processes,
            stop,
        )
        metrics: dict[str, float] = {}
        pictures: dict[str, Image] = {}
        if rank == 0:
            metrics = metrics_of(validation_set, results)
            journal.record({"iteration": iteration, **metrics}, "val")
            journal.say(f"iteration {iteration}\n{format_metrics(metrics)}")
            pictures = draw_predictions(detector, validation_set, device, 8)
            sheet = sheet_of([*pictures.values()][:6])
            journal.picture("predictions", sheet, iteration)
            try:
                (output / "progress").mkdir(exist_ok=True)
                sheet.save(output / "progress" / f"{iteration:08d}.png")
            except OSError as error:
                journal.say(f"iteration {iteration}: no picture: {error}")
        processes.wait()  # for pycocotools, with more patience than the next step has
        model.train()
        return metrics, pictures

    def is_evaluated(iteration: int) -> bool:
        interval = arguments.eval_interval
        return interval > 0 and iteration % interval == 0 and 0 < iteration < arguments.iterations

    def evaluate_in_between(iteration: int) -> None:
        try:
            evaluate(iteration)
        except UnreadableImageError as error:  # not a reason to stop training
            journal.say(f"iteration {iteration}: no evaluation: {error}")
            model.train()

    limit = MAX_UNREADABLE if arguments.max_unreadable is None else arguments.max_unreadable
    # The run ended in the middle of this evaluation.
    if is_evaluated(start) and processes.from_first(
        all(entry["iteration"] != start or "AP" not in entry for entry in journal.entries)
    ):
        evaluate_in_between(start)
    last_log, last_time, last_save = start, time.perf_counter(), time.perf_counter()
    last_saved = start if resumed is not None else -1
    for iteration in range(start, arguments.iterations):
        done = iteration + 1
        parts: list[Batch] = []
        problems = []
        for _ in range(arguments.accumulate):
            batch, unread = next(batches)
            parts.append(move(batch, device))
            problems += unread
        # All processes learn what the step needs: its number of targets, which is what one device with all
        # its images would divide by, and what is to be done after it.
        overdue = rank == 0 and time.perf_counter() - last_save > 60 * arguments.checkpoint_minutes
        flags = torch.tensor([bool(stop), overdue, len(problems), is_gone(problems)], dtype=torch.float32)
        if device.type == "cuda":
            flags = flags.pin_memory().to(device, non_blocking=True)  # else the host waits for the device
        own_targets = torch.stack([batch.targets.valid.sum() for batch in parts]).sum()
        num_targets, *flags_of_all = processes.sum(torch.cat([own_targets.float()[None], flags])).unbind()

        state.begin()
        forward_began = time.perf_counter()
        own_losses = torch.zeros(1 + 3 * config["num_stages"], device=device)
        for number, batch in enumerate(parts, start=1):
            losses, predictions = forward_backward(batch, num_targets, last=number == arguments.accumulate)
            own_losses += losses
        norm = state.clip()
        if arguments.compile and iteration == start:
            waited = time.perf_counter() - forward_began
            journal.say(f"compiling with {arguments.compile} and the first step took {waited:.0f} s")
            last_log, last_time = done, time.perf_counter()  # the rate is that of the steps after it

        # And how it went: the only time in a step that the host waits for the device, but for the matching.
        told = torch.cat([processes.sum(own_losses.clone()), norm[None], torch.stack(flags_of_all)])
        *all_losses, gradient_norm, stopped, due, unread_now, gone = told.tolist()
        losses_are_finite = all(map(math.isfinite, all_losses))
        learning_rate = state.schedule.get_last_lr()[0]
        if losses_are_finite and math.isfinite(gradient_norm):
            state.advance()
            bad_batches.in_a_row = 0
        elif losses_are_finite and state.scaler.is_enabled() and state.scaler.get_scale() >= 1:
            state.skip()  # fp16 looks for its scale this way
        else:
            state.skip()
            entry = bad_batches.skip(done, parts, own_losses, gradient_norm)
            journal.record(entry, "train")
            journal.say(
                f"iteration {done}: skipped, the loss is {all_losses[0]} and the gradient's norm "
                f"{gradient_norm}; image ids {entry['image_ids']}"
            )
            bad_batches.raise_if_hopeless(done, entry["image_ids"])
        for problem in problems:
            print(f"iteration {done}: {problem}; another image took its place", file=sys.stderr)
        if unread_now:  # anywhere: all processes learn of it, and end together if it is too much
            told_by_all = [problem for part in processes.gather(problems) for problem in part]
            unreadable.update(told_by_all)
            if gone:
                raise ValueError(f"iteration {done}: {next(filter(is_gone_problem, told_by_all))}")
            if len(unreadable) > limit:
                raise ValueError(
                    f"iteration {done}: {len(unreadable)} images could not be read, "
                    f"and --max-unreadable is {limit}"
                )

        journal.progress.update()
        if losses_are_finite and (done % arguments.log_interval == 0 or done == arguments.iterations):
            *iou, count = processes.sum(matched_iou(predictions, batch)).tolist()
            by_stage = [
                all_losses[1 + kind * len(iou) : 1 + (kind + 1) * len(iou)] for kind in range(3)
            ]  # classification, L1, GIoU
            now = time.perf_counter()
            entry = {
                "iteration": done,
                "loss": all_losses[0],
                **dict(zip(("classification", "l1", "giou"), (x[-1] for x in by_stage), strict=True)),
                "gradient_norm": gradient_norm,
                "learning_rate": learning_rate,
                "images_per_second": (done - last_log) * arguments.batch_size / (now - last_time),
                "memory_gb": memory_in_gb(device),
                "skipped": bad_batches.total,
                "unreadable": len(unreadable),
                "classification_by_stage": by_stage[0],
                "l1_by_stage": by_stage[1],
                "giou_by_stage": by_stage[2],
                "matched_iou_by_stage": [value / count if count else math.nan for value in iou],
            }
            if state.scaler.is_enabled():
                entry["loss_scale"] = state.scaler.get_scale()
            last_log, last_time = done, now
            journal.record(entry, "train")
            journal.show(entry)
        if stopped or due or done % arguments.checkpoint_interval == 0 or is_evaluated(done):
            # Before an evaluation, too: it takes a while on COCO.
            last_saved = save(done, needed=bool(stopped))
            last_save = time.perf_counter()
        if stopped:
            raise StopRequestedError(f"stopped at iteration {done}")
        if is_evaluated(done):
            evaluate_in_between(done)
            last_log, last_time = done, time.perf_counter()

    if last_saved < arguments.iterations:
        save(arguments.iterations, needed=True)
    metrics, pictures = evaluate(arguments.iterations)
    journal.close()
    if rank == 0:
        try:
            journal.plot(output / "training.png")
            (output / "pictures").mkdir(exist_ok=True)
            for name, picture in pictures.items():
                picture.save(output / "pictures" / f"{name}.png")
            sheet_of([*pictures.values()][:6]).save(output / "predictions.png")
        except OSError as error:  # a full disk: the checkpoint and the figures are what counts
            print(f"not all pictures could be written: {error}", file=sys.stderr)
        summary = {
            "iterations": arguments.iterations,
            **metrics,
            "skipped": bad_batches.total,
            "unreadable": len(unreadable),
            "minutes": (time.perf_counter() - began) / 60,
        }
        # Renamed when whole: it says that the run is complete.
        (output / "summary.tmp").write_text(json.dumps(without_nan(summary), indent=2))
        (output / "summary.tmp").replace(output / "summary.json")
        print(
            f"AP {metrics['AP']:.3f}, AP50 {metrics['AP50']:.3f} on {len(validation_set)} images after "
            f"{arguments.iterations} iterations, {bad_batches.total} skipped, {len(unreadable)} unreadable "
            f"images replaced, {summary['minutes']:.1f} min; see {output}"
        )


def report_dry_run(
    arguments: argparse.Namespace,
    batch: Batch,
    loss: float,
    norm: float,
    seconds: float,
    checkpoint_size: int,
    output: Path,
    device: torch.device,
    problems: list[str],
) -> None:
    """Prints what a step takes; raises if it cannot work."""
    for problem in problems:
        print(f"{problem}; another image took its place")
    count, _, height, width = batch.images.shape
    print(
        f"one step of {count} images a device, padded to the largest that may come ({height} x {width}): "
        f"loss {loss:.2f}, gradient norm {norm:.2f}, {seconds:.1f} s with warming up, "
        f"{memory_in_gb(device):.2f} GB at most"
    )
    hours = seconds * arguments.iterations / 3600
    print(f"all {arguments.iterations} steps at that rate: {hours:.1f} h or less")
    if not (math.isfinite(loss) and math.isfinite(norm)):
        raise ValueError(f"the loss is {loss} and the gradient's norm {norm}")
    there = next(path for path in (output.absolute(), *output.absolute().parents) if path.exists())
    free = shutil.disk_usage(there).free
    needed = checkpoint_size * (arguments.keep_checkpoints + 1)
    print(f"checkpoints: {needed / 1e9:.2f} GB of the {free / 1e9:.1f} GB free in {there}")
    if needed > free:
        raise ValueError(f"the disk of {there} has no room for {arguments.keep_checkpoints + 1} checkpoints")
    print("dry run: everything is in order, nothing was written to the output directory")


def main() -> None:
    arguments = parse_arguments(__doc__)
    with stop_on_signal() as stop, joined(arguments.device) as processes:
        if processes.device.type == "cpu" and arguments.freed_memory == "keep":
            keep_freed_memory()
        elif processes.device.type == "cpu" and not return_freed_memory():
            raise ValueError("--freed-memory return: the C library here does not do that, or is set outside")
        try:
            with ExitStack() as stack:
                train(arguments, processes, stop, stack)
        except StopRequestedError as stopped:
            if processes.rank == 0:
                print(f"{stop.signal_name or 'a signal'}: {stopped}; the same command goes on from there")


if __name__ == "__main__":
    try:
        main()
    except (ValueError, OSError) as error:
        # A DataLoader worker's error comes with its traceback; the last line says what is wrong.
        sys.exit(f"error: {str(error).strip().splitlines()[-1]}")
    except torch._dynamo.exc.TorchDynamoException as error:
        sys.exit(f"error: --compile: {str(error).strip().splitlines()[0]}")
