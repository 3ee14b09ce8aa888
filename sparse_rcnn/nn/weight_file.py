"""Reads a checkpoint file without running any code that is in it."""

import json
import operator
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sparse_rcnn.nn.digest import DIGEST_KEY, content_digest

__all__ = ["SAFETENSORS_KEY", "UNREAD", "Unread", "read_checkpoint"]

SAFETENSORS_KEY = "sparse_rcnn"  # the entry of a .safetensors header that holds the plain data as JSON


class Unread:
    """Replaces an object in a file that is not needed here. It keeps nothing and does nothing."""

    def __init__(self, *arguments: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass


# mmdetection 3.x writes these beside its weights: the history of its losses, and NumPy's numbers.
UNREAD = [
    "mmengine.logging.history_buffer.HistoryBuffer",
    *(f"numpy.{core}.multiarray.{name}" for core in ("core", "_core") for name in ("scalar", "_reconstruct")),
    *("numpy.ndarray", "numpy.dtype", "_codecs.encode"),
    *("builtins.getattr", "__builtin__.getattr"),  # the history uses it to find its methods
]


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Reads a file of tensors and plain data. If the file has a digest, it is checked.

    Args:
        path: The path of a file that `torch.save` wrote, or of a `.safetensors` file.

    Returns:
        The content of the file, on the CPU.

    Raises:
        ValueError: If the file is missing or damaged, or has more than tensors and plain data.
        ImportError: If it is a `.safetensors` file and safetensors is not installed.

    Example:
        >>> torch.save({"model": {"weight": torch.ones(2)}}, "weights.pth")
        >>> read_checkpoint("weights.pth")["model"]
        {'weight': tensor([1., 1.])}
    """
    path = Path(path)
    if not path.exists():
        raise ValueError(f"{path}: no such file")
    if not path.is_file():
        raise ValueError(f"{path}: not a regular file")
    try:
        content = _read_safetensors(path) if path.suffix == ".safetensors" else _read_pickle(path)
    except ImportError:
        raise
    except Exception as error:  # the unpickler can raise any error on a damaged file
        reason = _reason(error, path)
        raise ValueError(f"{path}: not a checkpoint of tensors and plain data: {reason}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path}: a checkpoint must be a dict, got {type(content).__name__}")
    try:
        _require_backed(content, path.stat().st_size)
        digest = _digest_of(content)
        damaged = digest is not None and digest != content_digest(content)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    if damaged:
        raise ValueError(
            f"{path}: is damaged: its content does not match its digest; use another copy of the file "
            "(if you changed it on purpose, delete its entry 'digest')"
        )
    return content


def _read_pickle(path: Path) -> Any:
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as file:
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in file.infolist()):
                raise ValueError("is compressed, which torch.save never does")
    with torch.serialization.safe_globals([(Unread, name) for name in UNREAD]):
        return torch.load(path, map_location="cpu", weights_only=True)


def _read_safetensors(path: Path) -> dict[str, Any]:
    try:
        from safetensors import safe_open
    except ImportError as error:
        raise ImportError(f"{path}: needs safetensors: pip install safetensors") from error
    with safe_open(path, "pt") as file:
        weights: dict[str, Any] = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        metadata = file.metadata() or {}
    header = metadata.get(SAFETENSORS_KEY)
    if header is None:
        if any(f'"{DIGEST_KEY}"' in value for value in metadata.values()):
            raise ValueError(f"is damaged: the header's name {SAFETENSORS_KEY!r} has changed")
        return weights
    fields = json.loads(header)
    if not isinstance(fields, dict):
        raise ValueError(f"its header's {SAFETENSORS_KEY!r} must be a JSON object")
    return {**fields, "model": weights}


def _digest_of(content: dict[str, Any]) -> Any:
    """The digest in a file, also under a name with a wrong letter. None if there is none."""
    for key, value in content.items():
        if len(str(key)) == len(DIGEST_KEY) and sum(map(operator.ne, str(key), DIGEST_KEY)) <= 1:
            return value
    return None


def _require_backed(content: dict[str, Any], size: int) -> None:
    """Raises ValueError for a tensor that is larger than its file: a view can repeat a few numbers."""
    seen: set[int] = set()
    waiting: list[Any] = [content]
    while waiting:
        value = waiting.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, Tensor):
            if value.layout != torch.strided or value.is_quantized or value.device.type == "meta":
                raise ValueError(f"has a tensor that is not dense: {value.layout}, {value.device.type}")
            own = value.numel() * value.element_size()
            if own > size:
                raise ValueError(f"has a tensor of {own} bytes, more than the whole file ({size})")
        elif isinstance(value, Mapping):
            waiting += [*value.keys(), *value.values()]
        elif isinstance(value, (list, tuple, set, frozenset)):
            waiting += value


def _reason(error: Exception, path: Path) -> str:
    """What kind of file it is instead, the object that could run code, or the first line of the error."""
    if isinstance(error, OSError):
        return str(error)
    with path.open("rb") as file:
        start = file.read(24).decode("latin-1")
    if not start:
        return "the file is empty"
    if path.suffix != ".safetensors" and not start.startswith(("PK", "\x80")):  # an archive, or a pickle
        return f"torch.save did not write it: it begins with {start!a}"
    text = str(error).strip()
    found = re.search(r"GLOBAL (\S+) was not an allowed global|got <class '([^']+)'>", text)
    if found:
        name = found[1] or found[2]
        return (
            f"it holds a {name} object, and creating one can run code; if you trust the file, save only its "
            'weights: torch.save({"model": torch.load(file, weights_only=False)["model"]}, new_file) '
            '(in mmdetection\'s files they are under "state_dict")'
        )
    reason = (text or type(error).__name__).splitlines()[0]
    # The rest of it advises to run the file's code. Errors of the unpickler itself name no reason.
    unnamed = isinstance(error, (LookupError, EOFError, TypeError, AttributeError))
    if reason.startswith("Weights only load failed") or unnamed:
        return "torch.load with weights_only=True refuses it"
    return reason
