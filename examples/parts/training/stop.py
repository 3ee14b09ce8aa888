"""SIGTERM and SIGINT as a request to stop after the step."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class StopRequestedError(Exception):
    """This process was asked to stop during work that can be repeated."""


class Stop:
    """Remembers a signal until the end of the step. A second Ctrl-C stops at once."""

    def __init__(self) -> None:
        self.signal_name = ""  # empty until a signal comes

    def __bool__(self) -> bool:
        return self.signal_name != ""

    def raise_if_requested(self) -> None:
        """Raises StopRequestedError if a signal came."""
        if self:
            raise StopRequestedError(self.signal_name)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.signal_name = signal.Signals(number).name
        if int(os.environ.get("RANK", 0)) == 0:
            os.write(2, f"\n{self.signal_name}: stopping after this step\n".encode())
        if number == signal.SIGINT:
            signal.signal(signal.SIGINT, signal.default_int_handler)


@contextmanager
def stop_on_signal() -> Iterator[Stop]:
    """Turns SIGTERM and SIGINT into a request to stop, inside of the context."""
    stop = Stop()
    before = {number: signal.signal(number, stop._handle) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
