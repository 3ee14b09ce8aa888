"""Rows of a benchmark for tests, in a file that a process of their own imports in no time."""

import os
import time

import torch


def slow_counter(machine, name, *arguments):
    """Each call takes a tenth of a second. It returns its process, the row, and how many calls there were."""
    calls = []

    def run():
        time.sleep(0.1)
        calls.append(None)
        return os.getpid(), name, *arguments, len(calls)

    return run


def hold_and_allocate(machine, name, held, allocated):
    """Megabytes that stay, and those that each call needs."""
    kept = torch.ones(held, 250_000)
    return lambda: torch.ones(allocated, 250_000).sum() + kept[0, 0]
