"""A model that takes chunks beside the same model fed frame by frame."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from edgelstm.artifact import Artifact
from edgelstm.blocks import outputs_by_name
from edgelstm.errors import MismatchError
from edgelstm_compiler.comparison import TOLERANCE, own_error
from edgelstm_compiler.ir.types import Array
from edgelstm_compiler.session_rows import by_name, rows_behind, step_through


def expect_chunks(artifact: Artifact, frames: Mapping[str, Array]) -> None:
    """Step whole chunks, and what is left over to the end, beside single frames.

    Args:
        artifact: compiled for streams; without chunks there is nothing to compare.
        frames: for each input (n, *frame shape).

    Raises:
        MismatchError: an output has other rows, or other numbers.
    """
    signature = artifact.signature
    chunk = signature.chunk
    if chunk == 1:
        return
    count = len(next(iter(frames.values())))
    whole = count - count % chunk
    single, chunked = artifact.session(), artifact.session()
    wanted: dict[str, list[Array]] = {spec.name: [] for spec in signature.outputs}
    found: dict[str, list[Array]] = {spec.name: [] for spec in signature.outputs}
    timed = {spec.name for spec in signature.outputs if spec.time_axis is not None}
    still = {spec.name for spec in signature.inputs if spec.time_axis is None}
    for start in range(0, whole, chunk):
        block = {name: x[start : start + chunk] for name, x in frames.items()}
        held = {name: x[0] if name in still else x for name, x in block.items()}
        result = chunked.step(held if len(held) > 1 else next(iter(held.values())))
        for name, rows in outputs_by_name(signature, result).items():
            if rows is not None:
                new = np.array(rows)
                found[name].append(new if name in timed else new[None])
        for name, rows in step_through(single, block, chunk).items():
            wanted[name].append(rows if name in timed else rows[-1:])
    left = {name: x[whole:] for name, x in frames.items()}
    for into, pieces in (
        (wanted, (step_through(single, left, count - whole), rows_behind(single))),
        (found, (by_name(chunked.run(left), signature), rows_behind(chunked))),
    ):
        for piece in pieces:
            for name, rows in piece.items():
                into[name].append(rows)
    for spec in signature.outputs:
        mine, other = np.concatenate(found[spec.name]), np.concatenate(wanted[spec.name])
        if mine.shape != other.shape:
            raise MismatchError(
                f"output {spec.name!r} has {len(mine)} rows in chunks of {chunk} frames, and "
                f"{len(other)} frame by frame"
            )
        error = own_error(mine, other)
        if not error <= (TOLERANCE if spec.dtype.is_float else 0.0):
            raise MismatchError(
                f"output {spec.name!r} in chunks of {chunk} frames differs from single frames by "
                f"{error:.3g}"
            )
