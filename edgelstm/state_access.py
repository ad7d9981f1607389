"""One state of a session by its name: read, and set by the caller."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgelstm.dtypes import DType
from edgelstm.errors import StreamError
from edgelstm.memory import Block
from edgelstm.samples import convert_sample
from edgelstm.signature import CLOCK, END, Signature, StateSpec, TensorSpec
from edgelstm.snapshot import state_view

LARGEST = 2.0**40
"""No state beyond this is set: a cell computes with it before anything could be checked."""


def find_state(signature: Signature, name: str) -> StateSpec:
    """The state of this name.

    Raises:
        StreamError: there is none.
    """
    for spec in signature.states:
        if spec.name == name:
            return spec
    known = ", ".join(repr(spec.name) for spec in signature.states) or "none"
    raise StreamError(f"{signature.name!r} has no state {name!r}; its states are: {known}")


def states_of(signature: Signature, layers: Iterable[str]) -> list[StateSpec]:
    """The states of some layers.

    Args:
        signature: of the model.
        layers: names of layers, as their states have them in front of the last dot (`lstm_1` for
            `lstm_1.h` and `lstm_1.c`), or of single states; one name, or several.

    Raises:
        StreamError: a layer has no state, or what is named counts the frames.
    """
    names = (layers,) if isinstance(layers, str) else tuple(layers)
    found: list[StateSpec] = []
    for name in names:
        own = [s for s in signature.states if name in (s.name, s.name.rpartition(".")[0])]
        if not own:
            known = dict.fromkeys(
                spec.name.rpartition(".")[0] or spec.name
                for spec in signature.states
                if spec.name not in (CLOCK, END)
            )
            raise StreamError(
                f"{signature.name!r} has no layer {name!r} with a state; those with one are: "
                f"{', '.join(map(repr, known)) or 'none'}"
            )
        if any(spec.name in (CLOCK, END) for spec in own):
            raise StreamError(
                f"{name!r} counts the frames of the whole stream: reset() begins a new one"
            )
        found += own
    return found


def read_state(block: Block, signature: Signature, name: str) -> NDArray[Any]:
    """A copy of one state."""
    return state_view(block, find_state(signature, name)).copy()


class GivenState(NamedTuple):
    """What a caller gives for a state.

    Args:
        spec: which.
        data: in its type and shape.
        saturated: elements that lie beyond its range, and stand at its end.
    """

    spec: StateSpec
    data: NDArray[Any]
    saturated: int


def convert_state(signature: Signature, name: str, data: Any) -> GivenState:
    """What a caller gives for a state, in its type and shape.

    Args:
        signature: of the model.
        name: of the state.
        data: numbers in the state's shape, but for extents of one; a single number fills it. For a
            state in integers of known scale floats are what they stand for, integers are as they
            are.

    Raises:
        StreamError: no such state, or numbers that do not fit it.
    """
    spec = find_state(signature, name)
    array = np.asarray(data)
    if array.ndim == 0 and spec.shape:
        array = np.full(spec.shape, array)
    elif _extents(array.shape) == _extents(spec.shape):
        array = array.reshape(spec.shape)
    if spec.scale is not None and array.dtype.kind == "f" and array.shape == spec.shape:
        if not np.isfinite(array).all():
            raise StreamError(f"state {name!r}: NaN and infinity stand for no integer")
        # Symmetric, as cells keep their states: no int8 cell makes an h of -128.
        high = np.iinfo(spec.dtype.numpy.name).max
        steps = np.rint(array.astype(np.float64) / spec.scale)
        kept = np.clip(steps, -high, high).astype(spec.dtype.numpy)
        return GivenState(spec, kept, int(np.count_nonzero(np.abs(steps) > high)))
    told = TensorSpec(f"state {name}", spec.dtype, spec.shape, 0, spec.shape)
    given = array.tolist() if not isinstance(data, np.ndarray) else array
    converted = convert_sample(given, told)
    limit = signature.state_limit if signature.checks_states else LARGEST
    if spec.dtype.is_float and not (np.abs(converted.astype(np.float64)) <= limit).all():
        raise StreamError(
            f"state {name!r}: it holds NaN, infinity or more than {limit:.4g}, and no stream can "
            "continue from that"
        )
    if spec.dtype is DType.BOOL and converted.dtype != np.bool_:
        raise StreamError(f"state {name!r} holds truth values")
    return GivenState(spec, converted, 0)


def _extents(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(extent for extent in shape if extent != 1)
