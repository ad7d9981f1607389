"""A recording through a session into a sink, and what happens to samples that are not numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from time import perf_counter_ns
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelstm.errors import NonFiniteSampleError
from edgelstm.session import Session
from edgelstm.signature import Signature
from edgelstm.streams.base import Array, Batch, Sink, Source
from edgelstm.streams.columns import element_names
from edgelstm.streams.windows import run_windows


class BadSamplePolicy(StrEnum):
    """What to do with a frame that holds NaN, infinity or a missing value."""

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
        is_live: hand on each prediction at once.
        reset_every: begin a new stream after so many frames fed; None: never.
        frames_in: frames read.
        frames_out: predictions written.
        bad_frames: frames that were not all finite.
        model_ns: time spent in the model.
    """

    session: Session
    source: Source
    sink: Sink
    policy: BadSamplePolicy = BadSamplePolicy.RAISE
    is_live: bool = False
    reset_every: int | None = None
    frames_in: int = 0
    frames_out: int = 0
    bad_frames: int = 0
    model_ns: int = 0
    _last_good: dict[str, Array] = field(default_factory=dict)
    _since_reset: int = 0

    def run(self, progress: Callable[[], None] = lambda: None) -> None:
        """Feed the whole recording.

        Args:
            progress: called after each batch.

        Raises:
            StreamError: a frame cannot be used; the predictions before it have been written.
        """
        for batch in self.source.batches():
            self.frames_in += len(batch)
            bad = find_bad_frames(batch, self.session.signature)
            if bad.any():
                self.bad_frames += int(bad.sum())
                self._feed_with_bad(batch, bad)
            else:
                self._feed(batch, np.arange(len(batch)))
            self._remember(batch, bad)
            progress()

    def _feed_with_bad(self, batch: Batch, bad: NDArray[np.bool_]) -> None:
        if self.policy is BadSamplePolicy.RAISE:
            first = int(np.argmax(bad))
            self.frames_in -= len(batch) - first - 1
            self.bad_frames -= int(bad.sum()) - 1
            self._feed(batch, np.arange(first))
            raise _bad_sample_error(batch, first, self.session.signature)
        if self.policy is BadSamplePolicy.SKIP:
            self._feed(batch, np.flatnonzero(~bad))
        elif self.policy is BadSamplePolicy.HOLD:
            self._feed_held(batch, bad)
        else:
            for part, is_bad in _stretches(bad):
                if is_bad:
                    self.session.reset()
                    self._since_reset = 0
                else:
                    self._feed(batch, part)

    def _feed_held(self, batch: Batch, bad: NDArray[np.bool_]) -> None:
        """Each bad frame becomes a copy of the good one before it, perhaps of an earlier batch."""
        source = np.maximum.accumulate(np.where(bad, -1, np.arange(len(batch))))
        repaired = {}
        for name, frames in batch.frames.items():
            held = frames[np.maximum(source, 0)]
            if self._last_good:
                held[source < 0] = self._last_good[name]
            repaired[name] = held
        usable = np.arange(len(batch)) if self._last_good else np.flatnonzero(source >= 0)
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
        result: Any = self._run(frames, len(chosen))
        self.model_ns += perf_counter_ns() - start
        outputs = self.session.signature.outputs
        self.sink.write({outputs[0].name: result} if len(outputs) == 1 else result, kept)
        self.frames_out += len(chosen)
        if self.is_live:
            self.sink.flush()

    def _run(self, frames: dict[str, Array], count: int) -> Any:
        """The outputs of all frames, with a new stream wherever a window ends."""
        if self.reset_every is None:
            return self.session.run(frames)
        self._since_reset, result = run_windows(
            self.session, frames, count, self.reset_every, self._since_reset
        )
        return result

    def _remember(self, batch: Batch, bad: NDArray[np.bool_]) -> None:
        good = np.flatnonzero(~bad)
        if len(good):
            last = int(good[-1])
            self._last_good = {name: frames[last].copy() for name, frames in batch.frames.items()}


def find_bad_frames(batch: Batch, signature: Signature) -> NDArray[np.bool_]:
    """Which frames hold NaN or infinity in any input."""
    bad = np.zeros(len(batch), np.bool_)
    for spec in signature.inputs:
        if spec.dtype.is_float:
            bad |= ~np.isfinite(batch.frames[spec.name]).reshape(len(batch), -1).all(axis=1)
    return bad


def _bad_sample_error(batch: Batch, index: int, signature: Signature) -> NonFiniteSampleError:
    for spec in signature.inputs:
        values = np.asarray(batch.frames[spec.name][index]).reshape(-1)
        if not spec.dtype.is_float or np.isfinite(values).all():
            continue
        element = int(np.argmin(np.isfinite(values)))
        return NonFiniteSampleError(
            f"{batch.where(index)}: {element_names(spec)[element]} is {values[element]} "
            "(missing or not finite); --on-bad-sample skip, hold or reset continues after such "
            "samples"
        )
    raise AssertionError("a bad frame has a bad value")


def _stretches(bad: NDArray[np.bool_]) -> Iterator[tuple[NDArray[np.int64], bool]]:
    """Runs of equal flags, as indices."""
    for part in np.split(np.arange(len(bad)), np.flatnonzero(np.diff(bad)) + 1):
        yield part, bool(bad[part[0]])
