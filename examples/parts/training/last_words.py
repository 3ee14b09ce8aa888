"""What a run says when it gives up: one line that names the culprit and what to do."""

import torch

from parts.command_line import message_of, printable

# What PyTorch's allocators say, on a CPU and on a GPU.
OUT_OF_MEMORY = ("can't allocate memory", "not enough memory", "out of memory")
ADVICE = (
    "these take less memory and make the same steps: --accumulate PARTS, --recompute-head, "
    "--recompute-backbone; these make other steps: a smaller --batch-size, smaller --sizes and --max-size; "
    "an evaluation takes less with a smaller --eval-batch-size"
)


def last_words(error: Exception) -> str | None:
    """The line to end with; None for what is a fault of the program, which needs its traceback."""
    if is_out_of_memory(error):
        return f"out of memory: {ADVICE} ({printable(message_of(error))})"
    if isinstance(error, torch._dynamo.exc.TorchDynamoException):
        return f"--compile: {str(error).strip().splitlines()[0]}"
    return printable(message_of(error)) if isinstance(error, (ValueError, OSError)) else None


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error says that there was not enough memory, on whatever device."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in OUT_OF_MEMORY)
