"""Training images that cannot be read. Other images replace them, up to a limit."""

import sys

from parts.command_line import printable
from parts.training.defaults import MAX_UNREADABLE
from parts.training.processes import Processes
from parts.training.readable_samples import is_gone_problem
from parts.training.step_outcome import Outcome


class UnreadableImages:
    """Counts the images that could not be read, over all processes.

    Args:
        limit: The number of images that may be replaced. None for the default.
        processes: The processes. All of them learn of it and end together.
    """

    def __init__(self, limit: int | None, processes: Processes) -> None:
        self.limit = MAX_UNREADABLE if limit is None else limit
        self.processes = processes
        self.known: set[str] = set()

    def note(self, iteration: int, problems: list[str], outcome: Outcome) -> None:
        """Counts the images that a step could not read.

        Raises:
            ValueError: On all processes, if there are too many.
        """
        for problem in problems:
            print(printable(f"iteration {iteration}: {problem}; another image replaces it"), file=sys.stderr)
        if not outcome.num_unreadable:
            return
        told = [problem for part in self.processes.gather(problems) for problem in part]
        self.known.update(told)
        if outcome.is_gone:
            raise ValueError(f"iteration {iteration}: {next(filter(is_gone_problem, told))}")
        if len(self.known) > self.limit:
            raise ValueError(
                f"iteration {iteration}: {len(self.known)} images could not be read, "
                f"and --max-unreadable is {self.limit}"
            )
