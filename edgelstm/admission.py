"""Which samples an input takes: finite ones within its limit, integers within their ranges.

All engines that do not check in compiled code check with these functions, and messages are found
with them.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelstm.dtypes import is_floating
from edgelstm.signature import Signature, TensorSpec

Array = NDArray[Any]


def is_restricted(spec: TensorSpec) -> bool:
    """Whether there are values of the type that the input does not take."""
    return spec.dtype.is_float or bool(spec.ranges)


def refused(values: Array, spec: TensorSpec) -> NDArray[np.bool_]:
    """Which elements the input does not take.

    Shapes:
        values (*frame) or (n, *frame); the result likewise.
    """
    taken: Any
    if not spec.dtype.is_float:
        taken = np.ones(values.shape, np.bool_)
    elif math.isfinite(spec.limit):
        taken = np.abs(values) <= spec.limit  # NaN compares false
    else:
        taken = np.isfinite(values)
    if spec.ranges:
        low, high = element_ranges(spec)
        taken &= (values >= low) & (values <= high)
    return np.asarray(~taken)


def takes(values: Array, spec: TensorSpec) -> bool:
    """Whether the input takes all of these elements."""
    return not is_restricted(spec) or not refused(values, spec).any()


def nearest_taken(values: Array, spec: TensorSpec) -> Array:
    """The values, each moved to the nearest one that the input takes; for samples that are made up.

    Shapes:
        values (*frame) or (n, *frame); the result likewise.
    """
    if spec.dtype.is_float and math.isfinite(spec.limit):
        values = np.clip(values, -spec.limit, spec.limit)
    if spec.ranges:
        values = np.clip(values, *element_ranges(spec))
    return np.asarray(values, spec.dtype.numpy)


def is_kept(values: Array, signature: Signature) -> bool:
    """Whether a new state is one to go on with: finite, and within the model's limit of states."""
    if not is_floating(values.dtype):
        return True
    limit = signature.state_limit
    kept = np.abs(values) <= limit if math.isfinite(limit) else np.isfinite(values)
    return bool(kept.all())


@lru_cache(maxsize=64)
def element_ranges(spec: TensorSpec) -> tuple[Array, Array]:
    """Smallest and largest value of each element of a frame."""
    counts = [count for count, _, _ in spec.ranges]
    kind = spec.dtype.numpy if spec.dtype.is_float else np.dtype(np.int64)
    low, high = (
        np.repeat(np.array([run[end] for run in spec.ranges], kind), counts) for end in (1, 2)
    )
    return low.reshape(spec.shape), high.reshape(spec.shape)


def what_is_taken(spec: TensorSpec) -> str:
    """In words what an input takes of its type; "" where that is everything."""
    parts = []
    if spec.dtype.is_float:
        limit = f", magnitudes up to {spec.limit:.9g}" if math.isfinite(spec.limit) else ""
        parts.append(f"finite numbers{limit}")
    at, is_alike = 0, len({run[1:] for run in spec.ranges}) == 1
    for count, low, high in spec.ranges:
        where = "" if is_alike else f" in elements {at} to {at + count - 1}"
        parts.append(
            f"{low:.9g} to {high:.9g}{where}" if spec.dtype.is_float else f"{low} to {high}{where}"
        )
        at += count
        if is_alike:
            break
    return "; ".join(parts)


def return_codes(signature: Signature) -> list[str]:
    """What step and run of compiled code return, in lines of C comments."""
    lines = [
        "Returns a bit mask of the outputs that are new: bit i for output i, in the order of the",
        "output block (of a run of several steps: 0).",
    ]
    if any(is_restricted(spec) for spec in signature.inputs):
        lines += ["Returns -1 - i if input i holds what it does not take; nothing was changed:"]
        lines += [
            f"  input {index} takes {what_is_taken(spec)}"
            for index, spec in enumerate(signature.inputs)
            if is_restricted(spec)
        ]
    if signature.checks_states:
        limit = signature.state_limit
        beyond = f"beyond {limit:.9g}, infinite" if math.isfinite(limit) else "infinite"
        lines += [
            f"Returns INT32_MIN + n if a state would be {beyond} or NaN after the next frame: n",
            "frames are done (0 of a single step), and the state is the one after them.",
        ]
    return lines
