"""Trains Sparse R-CNN, evaluates it, and draws what it finds.

Without --data, it trains a small model on the built-in shapes, in a few minutes on two CPU cores.

    python examples/train.py

With --data, it trains on your images, in COCO's, Pascal VOC's, YOLO's, CrowdHuman's or CVAT's format. For
fewer than 10,000 training images, the recipe follows from the data. It is printed with its reasons. Each of
its values is also an option.

    python examples/train.py --data /data/mine --minutes 20

For more images, or with --recipe coco, it uses the paper's recipe: ResNet-50, 100 proposals, 36 epochs of
COCO, 16 images per step. It runs on one device or several, with the same images in every step.

    torchrun --nproc-per-node 8 --max-restarts 3 examples/train.py --data /data/coco --drop-degenerate-boxes
    python examples/train.py --data /data/mine --weights r50_100pro_3x_model.pth --iterations 2000

If a run is interrupted or killed, give the same command again. It resumes from the last whole checkpoint.

Of the files in the output directory, best.pth (of the best evaluation) is the one to detect, evaluate and
export with. checkpoint.pth is the newest of checkpoints/, where training goes on. report.html, in the end,
shows what it finds and where it errs. docs/how_to/resume.md lists the other files.

A value in brackets is that of the paper's recipe. With the recipe that follows from the data, the printed
table has the values.
"""

import argparse
import sys
import warnings
from contextlib import ExitStack, closing

import torch
from parts.command_line import ending_with_the_reader, show_remark
from parts.host_memory import keep_freed_memory, return_freed_memory
from parts.precision import use_tf32
from parts.training.arguments import parse_arguments
from parts.training.bad_batches import BadBatches
from parts.training.batches import open_batches, take_step
from parts.training.checkpoint_saver import CheckpointSaver
from parts.training.data_digest import data_digests
from parts.training.dry_run import dry_run
from parts.training.error_message import error_message
from parts.training.evaluation import Evaluation
from parts.training.forward_backward import ForwardBackward
from parts.training.length import Length, estimate_length
from parts.training.model import build_model
from parts.training.processes import Processes, joined
from parts.training.random_states import seed_everything
from parts.training.run_directory import RunDirectory
from parts.training.run_log import RunLog
from parts.training.run_state import RunState, checkpoint_description
from parts.training.step_log import StepLog
from parts.training.step_outcome import StepSums
from parts.training.stop import Stop, StopRequestedError, stop_on_signal
from parts.training.training_data import open_data, write_down
from parts.training.training_state import TrainingState
from parts.training.unreadable_images import UnreadableImages


def train(arguments: argparse.Namespace, processes: Processes, stop: Stop, stack: ExitStack) -> None:
    # Options: a new run, or an interrupted run of the same options.
    seed_everything(arguments.seed)
    directory = RunDirectory(arguments, processes, stack)

    # Data: everything that can be wrong with it is found here, before training starts.
    tolerant = arguments.max_unreadable is not None or directory.resumed is not None
    training_set, validation_set = open_data(arguments, tolerant, processes, directory.split)
    digests = data_digests({"train": training_set, "val": validation_set})

    # Model and training state, from a checkpoint if the run is resumed.
    checkpoint = directory.read_resumed(training_set.class_names, len(training_set), digests)
    model, config = build_model(arguments, training_set.class_names, checkpoint, processes.rank)
    model = model.to(processes.device).to(memory_format=torch.channels_last)
    state = TrainingState(model, arguments, processes.device)
    bad_batches = BadBatches(directory.output / "bad_batches", arguments.max_bad_batches, processes)
    unreadable = UnreadableImages(arguments.max_unreadable, processes)
    run = RunState(state, bad_batches, unreadable, processes)
    start = 0 if checkpoint is None else run.load(checkpoint)
    forward_backward = ForwardBackward(arguments, state, processes)
    directory.say_what_runs(checkpoint, model, config, training_set)
    if arguments.data or arguments.minutes:
        estimate_length(arguments, state, run, training_set, processes, start)
    del checkpoint

    batches = stack.enter_context(closing(open_batches(arguments, training_set, processes, start)))
    model.train()
    if arguments.dry_run:
        dry_run(arguments, processes, batches, training_set, validation_set, state, forward_backward)
        return
    directory.begin(start, state.num_bytes())
    if directory.split is None:
        write_down(arguments, training_set, validation_set, processes.rank)
    directory.show_augmentation(training_set)
    output = directory.output if processes.rank == 0 else None
    run_log = RunLog(output, start, arguments.iterations, processes.rank, directory.open_loggers())
    stack.callback(run_log.close)  # however this ends
    description = checkpoint_description(arguments, config, training_set, digests)
    saver = CheckpointSaver(arguments, directory.checkpoints, run, description, run_log)
    evaluation = Evaluation(arguments, state, validation_set, processes, run_log, stop)
    if evaluation.was_interrupted(start):
        evaluation.run(start, run.spent)
    step_log = StepLog(arguments, run, run_log, start, forward_backward.weights)
    sums = StepSums(processes)
    length = Length(arguments, run, processes, start)

    # Loop.
    for iteration in length.steps(start):
        parts, problems = take_step(batches, arguments, processes)
        # Of the whole step: what one device with all its images would divide the loss by.
        num_targets = sums.before_forward(parts, problems, bool(stop), saver.is_overdue())
        state.begin()
        own_losses, predictions = forward_backward(parts, num_targets)
        outcome = sums.after_backward(own_losses, state.clip())  # the same on all processes
        learning_rate = state.learning_rate()
        run.advance_or_skip(iteration, parts, own_losses, outcome, run_log)
        unreadable.note(iteration, problems, outcome)
        length.note(iteration)  # first: it says whether this step is the last one, which is logged
        step_log.note(iteration, outcome, predictions, parts[-1], learning_rate)

        evaluates = evaluation.is_due(iteration, length.ends_part)
        if saver.is_due(iteration) or outcome.is_overdue or outcome.is_stopped or evaluates:
            saver.save(iteration, needed=outcome.is_stopped)
        if outcome.is_stopped:
            raise StopRequestedError(f"stopped at iteration {iteration}")
        if evaluates:
            evaluation.run(iteration, run.spent)
            saver.keep_best(iteration)
            if evaluation.is_hopeless():
                length.end(iteration)
            step_log.restart(iteration)

    finish(arguments, directory, run, run_log, saver, evaluation)


def finish(
    arguments: argparse.Namespace,
    directory: RunDirectory,
    run: RunState,
    run_log: RunLog,
    saver: CheckpointSaver,
    evaluation: Evaluation,
) -> None:
    """The end of a run. The weights are saved first: figures and pictures may fail after that."""
    if saver.last < arguments.iterations:
        saver.save(arguments.iterations, needed=True)
    found = evaluation.run(arguments.iterations, run.spent)
    saver.keep_best(arguments.iterations)
    run_log.close()
    directory.finish(run, found, run_log)
    evaluation.write_report(found)
    if found.problem:
        raise ValueError(found.problem)


def main() -> None:
    warnings.showwarning = show_remark
    arguments = parse_arguments(__doc__, look=True)
    with stop_on_signal() as stop, joined(arguments.device) as processes:
        if processes.device.type == "cpu" and arguments.freed_memory == "keep":
            keep_freed_memory()
        elif processes.device.type == "cpu" and not return_freed_memory():
            raise ValueError("--freed-memory return: the C library here does not do that, or is set outside")
        if arguments.precision == "tf32":
            use_tf32(processes.device)
        try:
            with ExitStack() as stack:
                train(arguments, processes, stop, stack)
        except StopRequestedError as stopped:
            if processes.rank == 0:
                print(f"{stop.signal_name or 'a signal'}: {stopped}; the same command goes on from there")


if __name__ == "__main__":
    try:
        with ending_with_the_reader():
            main()
    except Exception as error:
        if (words := error_message(error)) is None:
            raise
        sys.exit(f"error: {words}")
