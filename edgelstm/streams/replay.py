"""A recording through a session into a sink, and what happens to samples that are not numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from time import perf_counter_ns
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelstm.errors import NonFiniteSampleError, RecordingError, StreamError
from edgelstm.pace import Pace
from edgelstm.session import Session
from edgelstm.signature import Signature
from edgelstm.streams.base import Array, Batch, Sink, Source
from edgelstm.streams.columns import element_names

NOT_FINITE = "missing or not finite"
"""The reason of frames that were read and cannot be fed."""

_WAY_OUT = "--on-bad-sample skip, hold or reset continues after such samples"


class BadSamplePolicy(StrEnum):
    """What to do with a frame that is not all finite numbers, and with a line that is none."""

    RAISE = "raise"  # stop there
    SKIP = "skip"  # leave it out: no prediction, the state waits
    HOLD = "hold"  # feed the last good frame again (frames before the first good one are left out)
    RESET = "reset"  # leave it out, and begin a new stream after it


@dataclass(slots=True)
class Replay:
    """One recording on its way; the counts grow as it runs.

    Args:
        session: runs the model.
        source: where frames come from.
        sink: where predictions go.
        policy: see `BadSamplePolicy`.
        frames_fed: good frames that went into the model.
        frames_done: frames that are dealt with: fed, or left out for good.
        frames_out: predictions written.
        bad_by_reason: frames and lines that were no samples, by what was wrong with them.
        model_ns: time spent in the model.
        last_good: the last frame by input that was all finite.
    """

    session: Session
    source: Source
    sink: Sink
    policy: BadSamplePolicy = BadSamplePolicy.RAISE
    frames_fed: int = 0
    frames_done: int = 0
    frames_out: int = 0
    bad_by_reason: Counter[str] = field(default_factory=Counter)
    model_ns: int = 0
    last_good: dict[str, Array] = field(default_factory=dict)
    _pace: Pace = field(default_factory=Pace)

    @property
    def bad_frames(self) -> int:
        """Frames and lines that were no samples."""
        return self.bad_by_reason.total()

    @property
    def frames_in(self) -> int:
        """Frames and lines that were read: each was fed, or is counted as bad."""
        return self.frames_fed + self.bad_frames

    def run(self, progress: Callable[[], None] = lambda: None) -> None:
        """Feed the whole recording.

        Args:
            progress: called several times a second while frames come, when all that was read is
                dealt with; what it raises ends the run there.

        Raises:
            StreamError: a frame cannot be used; the predictions before it have been written.
        """
        for batch in self.source.batches():
            for part in self._pace.stretches(len(batch)):
                self._take(batch if len(batch) == part.stop - part.start else batch.part(part))
                self.sink.flush()
                progress()

    def _take(self, batch: Batch) -> None:
        bad = find_bad_frames(batch, self.session.signature)
        if bad.any():
            self._feed_with_bad(batch, bad)
        else:
            self._feed(batch, np.arange(len(batch)))
            self.frames_fed += len(batch)
        self._remember(batch, bad)
        self.frames_done += len(batch)

    def _feed_with_bad(self, batch: Batch, bad: NDArray[np.bool_]) -> None:
        if self.policy is BadSamplePolicy.RAISE:
            first = int(np.argmax(bad))
            self._feed(batch, np.arange(first))
            self.frames_fed += first
            self.frames_done += first
            self._count(batch, first)
            raise _bad_sample_error(batch, first, self.session.signature)
        self._feed_repaired(batch, bad)
        self.frames_fed += int((~bad).sum())
        for index in np.flatnonzero(bad):
            self._count(batch, int(index))

    def _count(self, batch: Batch, index: int) -> None:
        fault = batch.faults.get(index)
        self.bad_by_reason[NOT_FINITE if fault is None else fault.reason] += 1

    def _feed_repaired(self, batch: Batch, bad: NDArray[np.bool_]) -> None:
        if self.policy is BadSamplePolicy.SKIP:
            self._feed(batch, np.flatnonzero(~bad))
        elif self.policy is BadSamplePolicy.HOLD:
            self._feed_held(batch, bad)
        else:
            for part, is_bad in _stretches(bad):
                if is_bad:
                    self.session.reset()
                else:
                    self._feed(batch, part)

    def _feed_held(self, batch: Batch, bad: NDArray[np.bool_]) -> None:
        """Each bad frame becomes a copy of the good one before it, perhaps of an earlier batch."""
        source = np.maximum.accumulate(np.where(bad, -1, np.arange(len(batch))))
        repaired = {}
        for name, frames in batch.frames.items():
            held = frames[np.maximum(source, 0)]
            if self.last_good:
                held[source < 0] = self.last_good[name]
            repaired[name] = held
        usable = np.arange(len(batch)) if self.last_good else np.flatnonzero(source >= 0)
        self._feed(Batch(repaired, batch.where, batch.kept), usable)

    def _feed(self, batch: Batch, chosen: NDArray[np.int64]) -> None:
        if not len(chosen):
            return
        is_whole = len(chosen) == len(batch)
        frames = dict(batch.frames)
        kept = dict(batch.kept)
        if not is_whole:
            frames = {name: array[chosen] for name, array in frames.items()}
            kept = {name: [values[i] for i in chosen] for name, values in kept.items()}
        start = perf_counter_ns()
        result: Any = self.session.run(frames)
        self.model_ns += perf_counter_ns() - start
        outputs = self.session.signature.outputs
        self.sink.write({outputs[0].name: result} if len(outputs) == 1 else result, kept)
        self.frames_out += len(chosen)

    def _remember(self, batch: Batch, bad: NDArray[np.bool_]) -> None:
        good = np.flatnonzero(~bad)
        if len(good):
            last = int(good[-1])
            self.last_good = {name: frames[last].copy() for name, frames in batch.frames.items()}


def find_bad_frames(batch: Batch, signature: Signature) -> NDArray[np.bool_]:
    """Which frames hold NaN or infinity in any input, or are faults."""
    bad = np.zeros(len(batch), np.bool_)
    bad[list(batch.faults)] = True
    for spec in signature.inputs:
        if spec.dtype.is_float:
            bad |= ~np.isfinite(batch.frames[spec.name]).reshape(len(batch), -1).all(axis=1)
    return bad


def _bad_sample_error(batch: Batch, index: int, signature: Signature) -> StreamError:
    if index in batch.faults:
        return RecordingError(f"{batch.faults[index].message}; {_WAY_OUT}")
    for spec in signature.inputs:
        values = np.asarray(batch.frames[spec.name][index]).reshape(-1)
        if not spec.dtype.is_float or np.isfinite(values).all():
            continue
        element = int(np.argmin(np.isfinite(values)))
        return NonFiniteSampleError(
            f"{batch.where(index)}: {element_names(spec)[element]} is {values[element]} "
            f"(missing or not finite); {_WAY_OUT}"
        )
    raise AssertionError("a bad frame has a bad value")


def _stretches(bad: NDArray[np.bool_]) -> Iterator[tuple[NDArray[np.int64], bool]]:
    """Runs of equal flags, as indices."""
    for part in np.split(np.arange(len(bad)), np.flatnonzero(np.diff(bad)) + 1):
        yield part, bool(bad[part[0]])
