"""Blocks through a session: what `Replay` does with recordings, for samples with their time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelstm.errors import StreamError
from edgelstm.io.base import Array, Batch, Fault
from edgelstm.io.block import Block, SampleFlag
from edgelstm.io.checkpoint import Remembered
from edgelstm.io.counters import Counters
from edgelstm.io.quality import Quality
from edgelstm.io.replay import BadSamplePolicy, Replay
from edgelstm.io.waiting_samples import Judged, WaitingSamples, without_frames
from edgelstm.sessions import Session

_ROW = "row"
_MOST_FAULTS = 10_000
_INVALID = np.uint8(SampleFlag.INVALID)
BEHIND = "behind a sample that ended the run"


class _Collector:
    """A sink that keeps what it is given."""

    def __init__(self) -> None:
        self.outputs: list[Mapping[str, Array]] = []
        self.rows: list[Sequence[Any]] = []

    def write(self, outputs: Mapping[str, Array], kept: Mapping[str, Sequence[Any]]) -> None:
        self.outputs.append(outputs)
        self.rows.append(kept[_ROW])

    def clear(self) -> None:
        """Forget it."""
        self.outputs.clear()
        self.rows.clear()

    def flush(self) -> None:
        """Nothing waits here."""

    def finish(self) -> None:
        """Nothing waits here."""


@dataclass(frozen=True, slots=True)
class Fed:
    """What came of a block; of a model whose outputs are late, what came while it was fed.

    Args:
        samples: that the outputs stand for, also of earlier blocks.
        outputs: `(len(samples), *shape)` by name.
        flags: of these samples; those that stand for a bad one are `HELD`.
        error: a sample could not be used, and the policy is to stop there.
    """

    samples: Judged
    outputs: Mapping[str, Array]
    flags: NDArray[np.uint8]
    error: StreamError | None = None


@dataclass(slots=True)
class Feeder:
    """Feeds one stream.

    Args:
        session: runs the model.
        policy: for samples that the model does not take.
        counters: of the stream.
        reset_every: see `Replay`.
        keeps_inputs: what was measured is asked for beside the outputs.
        quality: of the stream.
    """

    session: Session
    policy: BadSamplePolicy
    counters: Counters
    reset_every: int | None = None
    keeps_inputs: bool = True
    quality: Quality = field(default_factory=Quality)
    faults: dict[int, str] = field(default_factory=dict)
    """Why samples are `INVALID`, by number; taken out when they come by."""
    replay: Replay = field(init=False)
    waiting: WaitingSamples | None = field(init=False)
    """Samples whose predictions are still to come; None where each has its own at once."""
    _collector: _Collector = field(default_factory=_Collector)
    _told: Counter[str] = field(default_factory=Counter)
    """Bad samples that the counters know of."""

    def __post_init__(self) -> None:
        self.replay = Replay(
            self.session, _NoSource(), self._collector, self.policy, self.reset_every
        )
        self.waiting = None if self.replay.late is None else WaitingSamples()

    def feed(self, block: Block) -> Fed:
        """Feed a block."""
        faults = self._faults(block)
        numbers = block.sequence
        first = 0 if self.waiting is None else self.waiting.end
        rows_of = range(first, first + len(block))
        batch = Batch(block.frames, lambda i: f"sample {numbers[i]}", {_ROW: rows_of}, faults)
        collector, replay = self._collector, self.replay
        collector.clear()
        fed_before = replay.frames_fed
        seen_before, run_before = replay.frames_in, replay.frames_run
        error = None
        try:
            replay.take(batch)
        except StreamError as exc:
            error = exc
        fed = replay.frames_fed - fed_before
        held = replay.frames_run - run_before - fed
        if replay.bad_frames != self._told.total():
            for reason, count in (replay.bad_by_reason - self._told).items():
                self.counters.drop(reason, count)
            self._told = replay.bad_by_reason.copy()
        self.counters.fed += fed + held
        self.counters.filled += held
        self.counters.drop(BEHIND, len(block) - (replay.frames_in - seen_before))
        quality = self.quality.of(block.flags, replay.was_bad)
        return self._fed(Judged(block, replay.was_bad, quality), error)

    def remember(self, remembered: Remembered) -> None:
        """Go on where another run of the stream stopped.

        Raises:
            RecordingError: what waited there is damaged.
        """
        replay = self.replay
        replay.since_reset = remembered.since_reset
        replay.last_good = dict(remembered.last_good)
        replay.is_over = remembered.is_over
        self.quality.restore(remembered.recent)
        if replay.late is not None and self.waiting is not None:
            replay.late.restore(remembered.late or {})
            self.waiting.restore(remembered.waiting or {})

    def restart(self) -> Fed | None:
        """Begin a new stream; what still came of the old one."""
        return self._ended(self.replay.restart)

    def end(self) -> Fed | None:
        """The stream is over; what still came of it."""
        return self._ended(self.replay.end)

    def _ended(self, end: Callable[[], None]) -> Fed | None:
        self._collector.clear()
        end()
        return self._fed(None, None) if self._collector.outputs else None

    def _fed(self, samples: Judged | None, error: StreamError | None) -> Fed:
        rows = [row for part in self._collector.rows for row in part]
        outputs = _join(self._collector.outputs)
        if self.waiting is None:
            assert samples is not None
            own = samples.of(np.array(rows, np.intp))
        else:
            own, outputs = self._waited(self.waiting, samples, rows, outputs)
        flags = own.block.flags
        if own.was_bad.any():
            is_held = (flags & ~_INVALID) | np.uint8(SampleFlag.HELD)
            flags = np.where(own.was_bad, is_held, flags)
        return Fed(own, outputs, flags, error)

    def _waited(
        self,
        waiting: WaitingSamples,
        samples: Judged | None,
        rows: Sequence[Any],
        outputs: Mapping[str, Array],
    ) -> tuple[Judged, Mapping[str, Array]]:
        """The samples, also earlier ones, that these rows of outputs stand for."""
        if samples is not None:
            if not self.keeps_inputs:
                samples = replace(samples, block=without_frames(samples.block))
            waiting.add(samples)
        # Layers with padding at their end may have more rows than there were samples.
        own = [place for place, row in enumerate(rows) if row != ""]
        self.counters.note("outputs behind the last sample", len(rows) - len(own))
        if len(own) < len(rows):
            outputs = {name: values[own] for name, values in outputs.items()}
        return waiting.take([rows[place] for place in own]), outputs

    def _faults(self, block: Block) -> dict[int, Fault]:
        if len(self.faults) > _MOST_FAULTS:
            self.faults.clear()  # those that stages dropped are never asked for
        faults: dict[int, Fault] = {}
        if not block.flags.any():
            return faults
        invalid = np.flatnonzero(block.flags & _INVALID)
        for i in invalid.tolist():
            number = int(block.sequence[i])
            reason = self.faults.pop(number, "invalid")
            faults[i] = Fault(reason, f"sample {number}: {reason}")
        return faults


class _NoSource:
    """Stands where `Replay` has a source that it reads itself."""

    kept: tuple[str, ...] = ()
    mapping: Mapping[str, Sequence[str]] = {}
    total: int | None = None
    done = 0

    def batches(self) -> Any:
        """Nothing: blocks are given."""
        return iter(())


def _join(parts: Sequence[Mapping[str, Array]]) -> Mapping[str, Array]:
    if not parts:
        return {}
    if len(parts) == 1:
        return parts[0]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
