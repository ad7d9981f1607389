"""Looks for NaN and infinity before frames go to the device: nothing is fed that holds one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from edgelstm.memory import Block
from edgelstm.signature import Signature


def find_non_finite(signature: Signature, frames: Block) -> int:
    """1 + i where float input i holds NaN or infinity in any of the frames, else 0."""
    whole = signature.input_bytes
    if len(signature.inputs) == 1 and signature.inputs[0].nbytes == whole:
        specs: Sequence[tuple[int, Any]] = ((0, frames.view(signature.inputs[0].dtype.numpy)),)
    else:
        rows = frames.reshape(-1, whole)
        specs = [
            (
                index,
                np.ascontiguousarray(
                    rows[:, spec.offset_bytes : spec.offset_bytes + spec.nbytes]
                ).view(spec.dtype.numpy),
            )
            for index, spec in enumerate(signature.inputs)
        ]
    for index, values in specs:
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            return 1 + index
    return 0


def make_finite_check(signature: Signature, frame: Block) -> Callable[[], int]:
    """`find_non_finite` of one frame in a fixed place, for every step."""
    checks = []
    for index, spec in enumerate(signature.inputs):
        values: Any = np.ndarray(spec.shape, spec.dtype.numpy, frame, spec.offset_bytes)
        if values.dtype.kind == "f":
            room = bytearray(values.size)
            checks.append((1 + index, values.reshape(-1), np.frombuffer(room, np.bool_), room))
    if len(checks) == 1:
        ((code, only, flags, room),) = checks
        is_finite = np.isfinite

        def check_one() -> int:
            is_finite(only, flags)
            # A search for a zero byte: far quicker than a reduction of few elements.
            return code if 0 in room else 0

        return check_one

    def check() -> int:
        for code, values, flags, room in checks:
            np.isfinite(values, flags)
            if 0 in room:
                return code
        return 0

    return check
