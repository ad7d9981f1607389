"""Arrays in JSON, to the bit: what checkpoints hold of samples."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray


def array_to_json(values: NDArray[Any]) -> dict[str, Any]:
    """Type, shape and elements."""
    data = base64.b64encode(values.tobytes()).decode()
    return {"dtype": values.dtype.str, "shape": list(values.shape), "data": data}


def array_from_json(item: Mapping[str, Any]) -> NDArray[Any]:
    """What `array_to_json` was given, in memory of its own.

    Raises:
        KeyError, TypeError, ValueError: it is something else.
    """
    data = np.frombuffer(base64.b64decode(item["data"]), np.dtype(item["dtype"]))
    return data.reshape(item["shape"]).copy()
