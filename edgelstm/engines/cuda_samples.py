"""Looks at frames before they go to the device: nothing is fed that an input does not take."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelstm.admission import element_ranges, is_kept, is_restricted, takes
from edgelstm.memory import Block
from edgelstm.signature import Signature, TensorSpec


def find_refused(signature: Signature, frames: Block) -> int:
    """1 + i where input i holds what it does not take in any of the frames, else 0."""
    whole = signature.input_bytes
    rows = frames.reshape(-1, whole)
    for index, spec in enumerate(signature.inputs):
        if not is_restricted(spec):
            continue
        raw = rows[:, spec.offset_bytes : spec.offset_bytes + spec.nbytes]
        values = np.ascontiguousarray(raw).view(spec.dtype.numpy).reshape(-1, *spec.shape)
        if not takes(values, spec):
            return 1 + index
    return 0


def states_are_kept(signature: Signature, states: Block) -> bool:
    """Whether every state is one to go on with.

    Args:
        signature: of the model.
        states: one or more state blocks, (n, bytes).
    """
    for spec in signature.states:
        if spec.dtype.is_float:
            raw = states[..., spec.offset_bytes : spec.offset_bytes + spec.nbytes]
            if not is_kept(np.ascontiguousarray(raw).view(spec.dtype.numpy), signature):
                return False
    return True


def make_check(signature: Signature, frame: Block) -> Callable[[], int]:
    """`find_refused` of one frame in a fixed place, for every step."""
    checks: list[tuple[int, Callable[[], bytearray]]] = []
    for index, spec in enumerate(signature.inputs):
        if is_restricted(spec):
            values: Any = np.ndarray(spec.shape, spec.dtype.numpy, frame, spec.offset_bytes)
            checks.append((1 + index, _flags(values.reshape(-1), spec)))
    if len(checks) == 1:
        ((only, look),) = checks
        # A search for a zero byte: far quicker than a reduction of few elements.
        return lambda: only if 0 in look() else 0

    def check() -> int:
        for code, look in checks:
            if 0 in look():
                return code
        return 0

    return check


def _flags(values: NDArray[Any], spec: TensorSpec) -> Callable[[], bytearray]:
    """Sets a byte per element to whether it is taken; all is allocated here."""
    room = bytearray(values.size)
    flags = np.frombuffer(room, np.bool_)
    if spec.ranges:
        low, high = (end.reshape(-1).astype(values.dtype) for end in element_ranges(spec))
        others = np.empty(values.size, np.bool_)

        def look_at_ranges() -> bytearray:
            np.greater_equal(values, low, flags)
            np.less_equal(values, high, others)
            np.logical_and(flags, others, flags)
            return room

        if not spec.dtype.is_float:
            return look_at_ranges
        # NaN and infinity lie in no range, and ranges within the limit.
        limit = min(spec.limit, spec.dtype.largest)
        low, high = np.maximum(low, -limit), np.minimum(high, limit)
        return look_at_ranges
    if not math.isfinite(spec.limit):

        def look_for_infinity() -> bytearray:
            np.isfinite(values, flags)
            return room

        return look_for_infinity
    limit = values.dtype.type(spec.limit)
    sizes = np.empty_like(values)

    def look_at_magnitudes() -> bytearray:
        np.abs(values, sizes)
        np.less_equal(sizes, limit, flags)
        return room

    return look_at_magnitudes
