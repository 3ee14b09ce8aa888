"""What a run says when it gives up: one line that names the culprit and what to do."""

import io
import re
import sys

import torch

# What PyTorch's allocators say, on a CPU and on a GPU.
OUT_OF_MEMORY = ("can't allocate memory", "not enough memory", "out of memory")
ADVICE = (
    "these take less memory and make the same steps: --accumulate PARTS, --recompute-head, "
    "--recompute-backbone; these make other steps: a smaller --batch-size, smaller --sizes and --max-size; "
    "an evaluation takes less with a smaller --eval-batch-size"
)
WORKER = "Original Traceback (most recent call last)"  # a reader's error comes with its own
LAST = re.compile(r"\n[\w.]+(?:Error|Exception): ")


def print_anything() -> None:
    """Lines of a log come at once, and a name that the terminal cannot show does not end a run."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(line_buffering=True, errors="backslashreplace")


def last_words(error: BaseException) -> str | None:
    """The line to end with; None for what is a fault of the program, which needs its traceback."""
    if is_out_of_memory(error):
        return f"out of memory: {ADVICE} ({one_line(error)})"
    if isinstance(error, torch._dynamo.exc.TorchDynamoException):
        return f"--compile: {str(error).strip().splitlines()[0]}"
    return one_line(error) if isinstance(error, (ValueError, OSError)) else None


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that there was not enough memory, on whatever device."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in OUT_OF_MEMORY)


def one_line(error: BaseException) -> str:
    """The whole message of an error on one line, without the traceback that a reader sends along."""
    text = str(error).strip()
    if WORKER in text:
        text = LAST.split(text)[-1]
    return text.replace("\r", "\\r").replace("\n", "\\n") or type(error).__name__
