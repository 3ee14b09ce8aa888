"""How long a run is: in steps, or with --minutes in the time that its steps take."""

import argparse
import time
from collections.abc import Iterator

import numpy as np
import torch

from parts.training.arguments import images_at_a_time
from parts.training.batches import move
from parts.training.forward_backward import HALF
from parts.training.processes import Processes
from parts.training.recipe import EVALUATIONS
from parts.training.run_state import RunState
from parts.training.training_state import TrainingState
from parts.training.training_step import TrainingStep
from sparse_rcnn.data import Batch, DetectionDataset, Target, collate
from sparse_rcnn.data.formats.counted import counted
from sparse_rcnn.ops import shortest_side_resize

HOUR, DAY = 3600, 24 * 3600


class Length:
    """Counts the time of the steps. What is between them, such as evaluations, does not count.

    With --minutes, ``arguments.iterations`` is what is expected by now, from the share of the time that is
    spent: so the schedule of the learning rate ends when the time does.

    Args:
        arguments: The options.
        run: Holds the time that was spent.
        processes: The clock of rank 0 is that of all.
        start: The step that the run goes on after.

    Attributes:
        ends_part: Whether the last step ended one of the parts that a run has, but not the run.
    """

    def __init__(
        self, arguments: argparse.Namespace, run: RunState, processes: Processes, start: int
    ) -> None:
        self.arguments = arguments
        self.run = run
        self.processes = processes
        self.ends_part = False
        self._clock = time.process_time if arguments.clock == "cpu" else time.perf_counter
        self._share = self._share_after(start)
        self._began = 0.0

    def steps(self, start: int) -> Iterator[int]:
        """The numbers of the steps after ``start``; give each to :meth:`note` when it is done."""
        iteration = start
        while iteration < self.arguments.iterations:
            iteration += 1
            self._began = self._clock()
            yield iteration

    def note(self, iteration: int) -> None:
        """A step is done."""
        self.run.spent += self._clock() - self._began
        before, self._share = self._share, self._share_after(iteration)
        if self.arguments.minutes is not None:
            self.arguments.iterations = expected_steps(iteration, self._share)
        part = int(self._share * EVALUATIONS)
        self.ends_part = int(before * EVALUATIONS) < part < EVALUATIONS

    def end(self, iteration: int) -> None:
        """The run ends here, earlier than it was to."""
        self.arguments.iterations = iteration

    def _share_after(self, iteration: int) -> float:
        if self.arguments.minutes is None:
            return iteration / self.arguments.iterations
        return self.processes.from_first(min(self.run.spent / (60 * self.arguments.minutes), 1.0))


def expected_steps(iteration: int, share: float) -> int:
    """The steps of a run of --minutes, if after this one the share of its time in 0..1 is spent."""
    return iteration if share >= 1 else max(iteration + 1, round(iteration / max(share, 1e-9)))


def estimate_length(
    arguments: argparse.Namespace,
    state: TrainingState,
    run: RunState,
    dataset: DetectionDataset,
    processes: Processes,
    start: int,
) -> None:
    """Says how long the run takes before it starts; --minutes: sets ``arguments.iterations`` from that."""
    minutes = arguments.minutes
    if minutes is not None and run.spent:  # resumed: schedule and augmentation go on exactly where they were
        seconds = run.spent / start
        arguments.iterations = expected_steps(start, run.spent / (60 * minutes))
    else:
        seconds = processes.from_first(seconds_of_a_step(arguments, state, dataset, processes))
        if minutes is not None:
            arguments.iterations = start + round(60 * minutes / seconds + 0.5)
    if processes.rank > 0:
        return
    epochs = arguments.iterations * arguments.batch_size / len(dataset)
    about = (arguments.iterations - start) * seconds
    clock = "of CPU time" if arguments.clock == "cpu" else "of training"
    print(
        f"{counted(arguments.iterations, 'step', 'steps')} of {arguments.batch_size} images, {epochs:.1f} "
        f"epochs of {len(dataset)}: about {duration(about)} {clock} at {seconds:.2f} s a step; evaluations "
        "and slow reading come on top"
    )
    if about > DAY:
        print(
            f"that is {about / DAY:.1f} days: --minutes or --epochs make a shorter run, --recipe small one "
            "of smaller images, and torchrun one on more devices"
        )


def seconds_of_a_step(
    arguments: argparse.Namespace, state: TrainingState, dataset: DetectionDataset, processes: Processes
) -> float:
    """By the second of two passes with a generated image on a CPU, with as many as fit a step on a GPU.

    Nothing of the run changes: no weight, no statistics, no random number.
    """
    images = images_at_a_time(arguments, processes.world_size) if processes.device.type == "cuda" else 1
    batch = move(generated_batch(arguments, dataset, images), processes.device)
    step, clock = (
        TrainingStep(state.model),
        time.process_time if arguments.clock == "cpu" else time.perf_counter,
    )
    half = HALF.get(arguments.precision)
    seconds = 0.0
    for _ in range(2):
        state.begin()
        began = clock()
        with torch.autocast(processes.device.type, half, enabled=half is not None):
            output = step(batch.images, batch.image_sizes, *batch.targets, batch.targets.valid.sum())
        output.losses.total.backward()
        state.clip().item()  # waits for the device
        seconds = clock() - began
        state.statistics.restore()
    state.optimizer.zero_grad()
    return seconds * arguments.batch_size / (images * processes.world_size)


def generated_batch(arguments: argparse.Namespace, dataset: DetectionDataset, images: int) -> Batch:
    """Images of the middle size that training draws, with an object each."""
    height, width = np.median(np.array(dataset.image_sizes), axis=0).round().astype(int).tolist()
    shortest = sorted(arguments.sizes)[len(arguments.sizes) // 2]
    height, width = shortest_side_resize(height, width, shortest, arguments.max_size)
    image = (torch.arange(3 * height * width) % 251).view(3, height, width).to(torch.uint8)
    box = torch.tensor([[0.0, 0.0, width / 2, height / 2]])
    target = Target(box, torch.zeros(1, dtype=torch.int64), 0, (height, width))
    return collate([(image, target)] * images)


def duration(seconds: float) -> str:
    """The time in words: in minutes, or in hours above one."""
    return f"{seconds / HOUR:.1f} h" if seconds > HOUR else f"{seconds / 60:.1f} min"
