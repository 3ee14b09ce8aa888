"""The last line of a run that fails: it names the cause and says what to do."""

import torch

from parts.command_line import message_of, printable

# Messages of PyTorch's allocators, on a CPU and on a GPU.
OUT_OF_MEMORY = ("can't allocate memory", "not enough memory", "out of memory")
ADVICE = (
    "these options save memory and do not change the training: --accumulate PARTS, --recompute-head, "
    "--recompute-backbone; a smaller --batch-size and smaller --sizes and --max-size change it; for the "
    "evaluation, give a smaller --eval-batch-size"
)


def error_message(error: Exception) -> str | None:
    """The last line for an error. None for a fault of the program: that needs its traceback."""
    if is_out_of_memory(error):
        return f"out of memory: {ADVICE} ({printable(message_of(error))})"
    if isinstance(error, torch._dynamo.exc.TorchDynamoException):
        return f"--compile: {str(error).strip().splitlines()[0]}"
    return printable(message_of(error)) if isinstance(error, (ValueError, OSError)) else None


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error says that a CPU or a GPU has not enough memory."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in OUT_OF_MEMORY)
