"""What parts of a decoder remember, as JSON and back: a run goes on where another one stopped.

A part names in `STATE` the attributes that change from row to row; all others come out of the
recipe. Numbers, arrays and phases come back to the bit.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import astuple
from typing import Any, Protocol

import numpy as np

from edgelstm.io.decoding.events import Phase


class Stateful(Protocol):
    """A part of a decoder."""

    @property
    def STATE(self) -> tuple[str, ...]:  # noqa: N802
        """Names of the attributes that change from row to row."""
        ...


def state_of(part: Stateful) -> dict[str, Any]:
    """What a part remembers, for `json.dumps`."""
    return {name: _to_json(getattr(part, name)) for name in part.STATE}


def restore_state(part: Stateful, state: Mapping[str, Any]) -> None:
    """Have a part remember it.

    Raises:
        KeyError, TypeError, ValueError: it is something else.
    """
    found = {name: _from_json(state[name]) for name in part.STATE}
    for name, value in found.items():
        setattr(part, name, value)


def _to_json(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        data = base64.b64encode(np.ascontiguousarray(value).tobytes()).decode()
        return {"array": [value.dtype.str, list(value.shape), data]}
    if isinstance(value, Phase):
        return {"phase": list(astuple(value))}
    if isinstance(value, tuple):
        return {"tuple": [_to_json(item) for item in value]}
    if isinstance(value, list):
        return [_to_json(item) for item in value]
    return value


def _from_json(value: Any) -> Any:
    if isinstance(value, list):
        return [_from_json(item) for item in value]
    if not isinstance(value, dict):
        return value
    ((kind, found),) = value.items()
    if kind == "tuple":
        return tuple(_from_json(item) for item in found)
    if kind == "phase":
        return Phase(*found)
    if kind != "array":
        raise ValueError(f"nothing is remembered as {kind!r}")
    dtype, shape, data = found
    return np.frombuffer(base64.b64decode(data), np.dtype(dtype)).reshape(shape).copy()
