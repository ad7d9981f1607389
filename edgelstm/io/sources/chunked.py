"""A recording of single frames for a model that takes several of them a step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from edgelstm.io.base import Batch, Fault, Recording
from edgelstm.io.sources.wrapped import WrappedSource
from edgelstm.sessions.chunks import chunk_frames, to_steps
from edgelstm.signature import Signature


class ChunkedSource(WrappedSource[Recording]):
    """Gathers frames until they fill a step; a step with a line that is no frame is none.

    What passes through, and the time stamp, are those of the step's last frame, unless those of
    every frame are asked for (`keep_every_frame`). Frames at the end
    that fill no step are left out, and `remarks` says so.

    Args:
        source: of single frames, see `frame_signature`.
        signature: of the model.
    """

    def __init__(self, source: Recording, signature: Signature) -> None:
        super().__init__(source)
        self._signature = signature
        self._chunk = chunk_frames(signature)
        self._left = 0
        self._keeps_every_frame = False

    def keep_every_frame(self) -> None:
        """Let what passes through be, for each step, a tuple of the values of its frames."""
        self._keeps_every_frame = True

    @property
    def units(self) -> Mapping[str, Sequence[str]]:
        """The units of the columns."""
        return self._source.units

    @property
    def time_name(self) -> str | None:
        """The column of time stamps."""
        return self._source.time_name

    @property
    def remarks(self) -> Sequence[str]:
        """What looks odd; also what was left over at the end."""
        if not self._left:
            return self._source.remarks
        return (
            *self._source.remarks,
            f"the last {self._left} frames do not fill a step of {self._chunk} and are left out",
        )

    def batches(self) -> Iterator[Batch]:
        """Steps, as soon as they are full."""
        waiting: list[Batch] = []
        count = 0
        for batch in self._source.batches():
            waiting.append(batch)
            count += len(batch)
            if count < self._chunk:
                continue
            whole = joined(waiting)
            full = count - count % self._chunk
            yield self._steps(whole.part(slice(0, full)))
            waiting = [whole.part(slice(full, count))] if full < count else []
            count -= full
        self._left = count

    def _steps(self, batch: Batch) -> Batch:
        chunk = self._chunk
        steps = len(batch) // chunk
        frames = {}
        for spec in self._signature.inputs:
            rows = batch.frames[spec.name]
            is_cut = spec.chunk_axis is not None
            frames[spec.name] = to_steps(rows, spec) if is_cut else rows[chunk - 1 :: chunk]
        faults: dict[int, Fault] = {}
        for index in sorted(batch.faults, reverse=True):
            faults[index // chunk] = batch.faults[index]
        last = slice(chunk - 1, steps * chunk, chunk)
        return Batch(
            frames,
            lambda i: batch.where(chunk * i),
            {name: self._passing(values, steps) for name, values in batch.kept.items()},
            faults,
            None if batch.times is None else batch.times[last],
        )

    def _passing(self, values: Sequence[Any], steps: int) -> Sequence[Any]:
        chunk = self._chunk
        if not self._keeps_every_frame:
            return values[chunk - 1 : steps * chunk : chunk]
        return [tuple(values[chunk * i : chunk * (i + 1)]) for i in range(steps)]


def joined(batches: Sequence[Batch]) -> Batch:
    """Batches as one."""
    if len(batches) == 1:
        return batches[0]
    starts = np.cumsum([0, *(len(batch) for batch in batches)]).tolist()

    def where(index: int) -> str:
        place = int(np.searchsorted(starts, index, "right")) - 1
        return batches[place].where(index - starts[place])

    kept: dict[str, list[Any]] = {
        name: [value for batch in batches for value in batch.kept[name]] for name in batches[0].kept
    }
    times = [batch.times for batch in batches if batch.times is not None]
    return Batch(
        {
            name: np.concatenate([batch.frames[name] for batch in batches])
            for name in batches[0].frames
        },
        where,
        kept,
        {
            start + index: fault
            for start, batch in zip(starts, batches, strict=False)
            for index, fault in batch.faults.items()
        },
        None
        if any(x is None for x in times)
        else np.concatenate([x for x in times if x is not None]),
    )
