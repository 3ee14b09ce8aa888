"""Reading a checkpoint file without executing anything that is in it."""

from pathlib import Path
from typing import Any

import torch


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Reads a file of tensors and plain data.

    Args:
        path: of a file written by ``torch.save``.

    Returns:
        What the file holds, on the CPU.

    Raises:
        ValueError: if the file is missing or damaged, or holds more than tensors and plain data.
    """
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise ValueError(f"{path}: no such file") from error
    except Exception as error:  # a damaged file makes the unpickler fail in any way
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        if reason.startswith("Weights only load failed"):  # and goes on to advise how to run code of the file
            reason = "torch.load with weights_only=True refuses it"
        raise ValueError(f"{path}: not a checkpoint of tensors and plain data: {reason}") from error
    if not isinstance(checkpoint, dict):
        raise ValueError(f"{path}: a checkpoint must be a dict, got {type(checkpoint).__name__}")
    return checkpoint
