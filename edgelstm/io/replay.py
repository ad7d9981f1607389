"""A recording through a session into a sink, and samples that the model does not take."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from time import perf_counter_ns
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelstm.admission import is_restricted, refused, takes
from edgelstm.blocks import outputs_by_name
from edgelstm.dtypes import is_floating
from edgelstm.errors import NonFiniteStateError, RecordingError, StreamError
from edgelstm.io.base import Array, Batch, Sink, Source
from edgelstm.io.columns import element_names
from edgelstm.io.late_rows import LateRows, Lines
from edgelstm.io.step_rows import Rows
from edgelstm.pace import Pace
from edgelstm.samples import refusal_reason
from edgelstm.sessions import Session
from edgelstm.signature import Signature

NOT_FINITE = "missing or not finite"
OUT_OF_RANGE = "out of range"
OVERFLOW = "state would overflow"
"""Reasons of frames that were read and are not fed."""

_WAY_OUT = "--on-bad-sample skip, hold or reset continues after such samples"
_SHORT_BLOCK = 16


class BadSamplePolicy(StrEnum):
    """What to do with a frame that the model does not take, and with a line that is no frame.

    A frame holds NaN, infinity, a missing value, a number beyond the limit of its input or an
    integer that is no index; or a state of the model would not be finite after it.
    """

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
        reset_every: begin a new stream after so many frames fed; None: never.
        frames_in: frames read.
        frames_done: frames that are dealt with: fed, or left out for good.
        frames_out: predictions written.
        frames_run: frames that went through the model, copies for bad ones included.
        bad_by_reason: frames and lines that the model does not take, by what is wrong with them.
        model_ns: time spent in the model.
        since_reset: frames fed since the stream began.
        last_good: the last frame by input that was all finite.
        rows: what makes lines of the rows of a model that takes several frames a step; None: a
            line is a frame.
        stays_open: the stream goes on in another run; what waits for further frames is kept.
        is_over: the stream has ended, and its last outputs with it.
    """

    session: Session
    source: Source
    sink: Sink
    policy: BadSamplePolicy = BadSamplePolicy.RAISE
    reset_every: int | None = None
    frames_in: int = 0
    frames_done: int = 0
    frames_out: int = 0
    frames_run: int = 0
    bad_by_reason: Counter[str] = field(default_factory=Counter)
    model_ns: int = 0
    since_reset: int = 0
    last_good: dict[str, Array] = field(default_factory=dict)
    rows: Rows | None = None
    stays_open: bool = False
    is_over: bool = False
    late: LateRows | None = field(init=False)
    """What has come and is not written yet, where outputs are late or slow."""
    _pace: Pace = field(default_factory=Pace)
    _bad: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, np.bool_))
    _bad_so_far: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    _told: int = 0

    def __post_init__(self) -> None:
        signature = self.session.signature
        is_late = signature.is_late and self.rows is None
        self.late = LateRows(signature) if is_late else None
        self.rows = self.rows or self.late

    @property
    def bad_frames(self) -> int:
        """Frames and lines that the model does not take."""
        return self.bad_by_reason.total()

    @property
    def frames_fed(self) -> int:
        """Frames that went into the model as they are: all but the bad ones."""
        return self.frames_in - self.bad_frames

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
                self.take(batch if len(batch) == part.stop - part.start else batch.part(part))
                self.sink.flush()
                progress()
        if not self.stays_open:
            self.end()
        self.sink.flush()

    def end(self) -> None:
        """The stream is over: what still comes of it is written."""
        if self.is_over:
            return
        before = self.frames_out
        self._finish()
        if self.late is not None:
            # Where nothing was different from what more frames bring, they may come.
            self.is_over = self.frames_out > before or self.session.signature.tail > 0

    def _finish(self) -> None:
        if self.rows is None or not self.since_reset:
            return
        start = perf_counter_ns()
        result = self.session.finish()
        self.model_ns += perf_counter_ns() - start
        self.rows.add(outputs_by_name(self.session.signature, result), {}, 0)
        self._write(self.rows.ready(is_over=True))

    def restart(self) -> None:
        """A new stream begins with the next frame."""
        if not self.is_over:
            self._finish()
        if self.rows is not None:
            self.rows.begin()
        self.session.reset()
        self.since_reset = 0

    def _write(self, lines: Lines | None) -> None:
        if lines is not None:
            outputs, kept = lines
            self.sink.write(outputs, kept)
            self.frames_out += len(next(iter(outputs.values())))

    @property
    def was_bad(self) -> NDArray[np.bool_]:
        """Which frames of the last batch were counted as bad."""
        return self._bad

    def take(self, batch: Batch, bad: NDArray[np.bool_] | None = None) -> None:
        """Feed one batch.

        Args:
            batch: the frames.
            bad: which of them the model does not take, where that is known already.

        Raises:
            StreamError: a frame cannot be used; the predictions before it have been written.
        """
        self._bad = np.zeros(len(batch), np.bool_)
        if self.is_over and len(batch):
            raise RecordingError(
                f"{batch.where(0)}: the recording had ended here when it was run before, and with "
                f"it the stream of {self.session.signature.name!r}, whose last outputs are out: "
                "begin anew, with another state or store"
            )
        self.frames_in += len(batch)
        if bad is None:
            bad = find_bad_frames(batch, self.session.signature)
        if bad.any():
            self._bad_so_far = np.cumsum(bad)
            self._feed_with_bad(batch, bad)
            self._remember(batch, int(np.max(np.flatnonzero(~bad), initial=-1)))
        else:
            self._bad_so_far = np.zeros(len(batch), np.int64)
            self._feed(batch, np.arange(len(batch)))
            self._remember(batch, len(batch) - 1)
        self._told -= int(self._bad_so_far[-1]) if len(batch) else 0
        self.frames_done += len(batch)

    def _feed_with_bad(self, batch: Batch, bad: NDArray[np.bool_]) -> None:
        if self.policy is BadSamplePolicy.RAISE:
            first = int(np.argmax(bad))
            self._feed(batch, np.arange(first))
            self._stop_at(batch, first)
            raise _bad_sample_error(batch, first, self.session.signature)
        for index in np.flatnonzero(bad):
            self._count(batch, int(index))
        if self.policy is BadSamplePolicy.SKIP:
            self._feed(batch, np.flatnonzero(~bad))
        elif self.policy is BadSamplePolicy.HOLD:
            self._feed_held(batch, bad)
        else:
            for part, is_bad in _stretches(bad):
                if is_bad:
                    self.restart()
                    self._told = int(self._bad_so_far[part[-1]])
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
        """Feed those frames, in blocks that are short for a while after a state overflowed."""
        size = len(chosen)
        while len(chosen):
            block = chosen[: min(size, self._room())]
            fed = self._feed_block(batch, block)
            size = min(2 * size, len(batch))
            if fed < len(block):
                self._overflow(batch, block, fed)
                fed, size = fed + 1, _SHORT_BLOCK
            chosen = chosen[fed:]

    def _feed_block(
        self, batch: Batch, chosen: NDArray[np.int64], marks: NDArray[np.int64] | None = None
    ) -> int:
        """Feed those frames; how many were, before one after which a state would overflow.

        Args:
            batch: has them.
            chosen: which.
            marks: how many bad samples each stands for; None: those since the frame before it.
        """
        self._room()
        is_whole = len(chosen) == len(batch)
        frames = dict(batch.frames)
        if not is_whole:
            frames = {name: array[chosen] for name, array in frames.items()}
        so_far = np.zeros(0, np.int64) if marks is not None else self._bad_so_far[chosen]
        if marks is None and len(chosen) and so_far[-1] != self._told:
            marks = np.diff(so_far, prepend=self._told)
        if marks is not None:
            self.session.mark(marks)
        start = perf_counter_ns()
        try:
            result: Any = self.session.run(frames)
            fed = len(chosen)
        except NonFiniteStateError as error:
            result, fed = error.outputs, error.frames_done
        self.model_ns += perf_counter_ns() - start
        if not fed:
            return 0
        if len(so_far):
            self._told = int(so_far[fed - 1])
        self.frames_run += fed
        self.since_reset += fed
        answered = self.session.answered(fed) if self.rows is None else None
        of = chosen[:fed] if answered is None else chosen[answered]
        kept = dict(batch.kept)
        if not is_whole or len(of) < len(chosen):
            kept = {name: [values[i] for i in of] for name, values in kept.items()}
        outputs = outputs_by_name(self.session.signature, result)
        if self.rows is not None:
            self.rows.add(outputs, kept, fed)
            self._write(self.rows.ready())
        elif len(of):
            self._write((outputs, kept | dict(self.session.about_answers())))
        return fed

    def _overflow(self, batch: Batch, chosen: NDArray[np.int64], fed: int) -> None:
        """A frame after which a state would not be finite; it has not been fed."""
        index = int(chosen[fed])
        if self.policy is BadSamplePolicy.RAISE:
            self._stop_at(batch, index, OVERFLOW)
            raise NonFiniteStateError(
                f"{batch.where(index)}: after this frame a state of the model would be infinite, "
                f"NaN or beyond its limit; {_WAY_OUT}"
            )
        self._count(batch, index, OVERFLOW)
        self._bad_so_far[index:] += 1
        if self.policy is BadSamplePolicy.RESET:
            self.restart()
            self._told = int(self._bad_so_far[index])
        elif self.policy is BadSamplePolicy.HOLD:
            good = self.last_good
            if fed:
                last = int(chosen[fed - 1])
                good = {name: frames[last] for name, frames in batch.frames.items()}
            if good:
                kept = {name: [values[index]] for name, values in batch.kept.items()}
                frames = {name: frame[None] for name, frame in good.items()}
                # Where that overflows as well, this frame has no prediction.
                self._feed_block(
                    Batch(frames, batch.where, kept), np.arange(1), np.ones(1, np.int64)
                )
                self._told = int(self._bad_so_far[index])

    def _count(self, batch: Batch, index: int, reason: str | None = None) -> None:
        """Count a frame as bad, once: the copy that stands for it may overflow as well."""
        if not self._bad[index]:
            self._bad[index] = True
            self.bad_by_reason[reason or self._reason(batch, index)] += 1

    def _reason(self, batch: Batch, index: int) -> str:
        if index in batch.faults:
            return batch.faults[index].reason
        is_finite = all(
            not spec.dtype.is_float or np.isfinite(batch.frames[spec.name][index]).all()
            for spec in self.session.signature.inputs
        )
        return OUT_OF_RANGE if is_finite else NOT_FINITE

    def _room(self) -> int:
        """Frames left in the window; at its end a new stream begins."""
        if self.reset_every is None:
            return sys.maxsize
        if self.since_reset >= self.reset_every:
            self.restart()
        return self.reset_every - self.since_reset

    def _stop_at(self, batch: Batch, index: int, reason: str | None = None) -> None:
        """Count that frame as bad and those behind it as not read; those before it are done."""
        self.frames_in -= len(batch) - index - 1
        self.frames_done += index
        self._count(batch, index, reason)

    def _remember(self, batch: Batch, last: int) -> None:
        """Keep the last good frame of a batch; -1 where there is none."""
        if last >= 0:
            self.last_good = {name: frames[last].copy() for name, frames in batch.frames.items()}


def find_bad_frames(batch: Batch, signature: Signature) -> NDArray[np.bool_]:
    """Which frames hold something that an input does not take, or are faults."""
    bad = np.zeros(len(batch), np.bool_)
    if batch.faults:
        bad[list(batch.faults)] = True
    for spec in signature.inputs:
        if is_restricted(spec):
            bad |= refused(batch.frames[spec.name], spec).reshape(len(batch), -1).any(axis=1)
    return bad


def _bad_sample_error(batch: Batch, index: int, signature: Signature) -> StreamError:
    if index in batch.faults:
        return RecordingError(f"{batch.faults[index].message}; {_WAY_OUT}")
    for spec in signature.inputs:
        values = np.asarray(batch.frames[spec.name][index])
        if takes(values, spec):
            continue
        element = int(np.argmax(refused(values, spec).reshape(-1)))
        place = tuple(int(i) for i in np.unravel_index(element, spec.shape))
        kind, reason = refusal_reason(values[place], spec, place)
        note = (
            " (missing or not finite)"
            if is_floating(values.dtype) and not np.isfinite(values[place])
            else ""
        )
        return kind(
            f"{batch.where(index)}: {element_names(spec)[element]} {reason}{note}; {_WAY_OUT}"
        )
    raise AssertionError("a bad frame has a bad value")


def _stretches(bad: NDArray[np.bool_]) -> Iterator[tuple[NDArray[np.int64], bool]]:
    """Runs of equal flags, as indices."""
    for part in np.split(np.arange(len(bad)), np.flatnonzero(np.diff(bad)) + 1):
        yield part, bool(bad[part[0]])
