"""Values as text for the page: many numbers in few characters, and no character that ends the script."""

import base64
import json
from typing import Any

import numpy as np

from parts.evaluating import without_nan

ONE = 65534  # stands for 1 where shares are written in 16 bits; the next number stands for no value


def packed(values: Any) -> str:
    """Whole numbers in 0..65535 as base64 of 16 bits each, the low byte first."""
    return base64.b64encode(np.asarray(values).astype("<u2").tobytes()).decode()


def packed_shares(values: Any) -> str:
    """Numbers in 0..1 as base64; NaN is no value."""
    values = np.asarray(values, dtype=float).ravel()
    return packed(np.where(np.isnan(values), ONE + 1, np.rint(np.clip(np.nan_to_num(values), 0, 1) * ONE)))


def script_text(values: Any) -> str:
    """JSON that may stand in an HTML script: names may have any character, also ``</script>``."""
    return json.dumps(without_nan(values), separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
