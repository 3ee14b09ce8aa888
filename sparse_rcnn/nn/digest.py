"""A digest of the content of a checkpoint. It shows whether a bit has changed."""

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = ["DIGEST_KEY", "content_digest"]

DIGEST_KEY = "digest"


def content_digest(content: Mapping[str, Any]) -> str:
    """SHA-256 of tensors and plain data. It does not depend on the file format or the order of entries.

    Args:
        content: Tensors and plain data by name. An entry `"digest"` is left out.

    Returns:
        64 hexadecimal digits.

    Raises:
        ValueError: If the content has something other than tensors and plain data, or contains itself.
    """
    try:
        counted = {key: value for key, value in content.items() if key != DIGEST_KEY}
        return _digest(counted, {}).hex()
    except RecursionError as error:
        raise ValueError("is nested too deeply, or contains itself") from error


def _digest(value: Any, known: dict[int, bytes]) -> bytes:
    """The digest of a value, from the digests of its parts. `known` keeps those of containers."""
    if id(value) in known:
        return known[id(value)]
    digest = hashlib.sha256()
    if isinstance(value, Tensor):
        if value.layout != torch.strided or value.is_quantized or value.device.type == "meta":
            raise ValueError(f"has a tensor that is not dense: {value.layout}, {value.device.type}")
        digest.update(f"tensor {value.dtype} {tuple(value.shape)} ".encode())
        plain = value.detach().cpu().contiguous().resolve_conj().resolve_neg().reshape(-1)
        digest.update(plain.view(torch.uint8).numpy().data if plain.numel() else b"")
    elif isinstance(value, (np.ndarray, np.generic)):
        digest.update(f"array {value.dtype.str} {value.shape} ".encode() + value.tobytes())
    elif isinstance(value, Mapping):
        digest.update(b"mapping")
        for key in sorted(value, key=repr):
            digest.update(_digest(key, known) + _digest(value[key], known))
    elif isinstance(value, (list, tuple)):  # JSON does not distinguish them
        digest.update(b"sequence" + b"".join(_digest(part, known) for part in value))
    elif value is None or isinstance(value, (bool, int, float, str, bytes, torch.dtype, torch.device)):
        return hashlib.sha256(f"{type(value).__name__} {value!r}".encode()).digest()
    else:
        raise ValueError(f"has neither a tensor nor plain data but {type(value).__name__}")
    known[id(value)] = digest.digest()
    return known[id(value)]
