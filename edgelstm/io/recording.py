"""A whole recording at once, for what needs all its frames: verification, calibration, replay."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

import numpy as np

from edgelstm.errors import RecordingError
from edgelstm.io.base import Array
from edgelstm.io.files import open_source
from edgelstm.signature import Signature


def read_frames(
    path: str | os.PathLike[str],
    signature: Signature,
    columns: Sequence[str] = (),
    described: Sequence[str] = (),
) -> dict[str, Array]:
    """All frames of a recording, `(n, *frame)` by input.

    Args:
        path: CSV, NDJSON, NPY or NPZ.
        signature: of the model that the frames are for.
        columns: which columns feed the input, in order; empty: found by name.
        described: names of the columns in the model's description, in order.

    Raises:
        RecordingError: it cannot be read, does not fit the model, holds a line that is no frame, or
            no frames.
    """
    batches: list[Mapping[str, Array]] = []
    with open_source(
        os.fspath(path), signature, columns=tuple(columns), described=described
    ) as source:
        for batch in source.batches():
            if batch.faults:
                raise RecordingError(batch.faults[min(batch.faults)].message)
            if len(batch):
                batches.append(batch.frames)
    if not batches:
        raise RecordingError(f"{os.fspath(path)}: the recording holds no frames")
    return {
        spec.name: np.concatenate([frames[spec.name] for frames in batches])
        for spec in signature.inputs
    }
