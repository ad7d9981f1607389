"""Blocks through a session: what `Replay` does with recordings, for samples with their time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelstm.errors import StreamError
from edgelstm.io.base import Array, Batch, Fault
from edgelstm.io.block import Block, SampleFlag
from edgelstm.io.counters import Counters
from edgelstm.io.replay import BadSamplePolicy, Replay
from edgelstm.sessions import Session

_ROW = "row"
_MOST_FAULTS = 10_000
_INVALID = np.uint8(SampleFlag.INVALID)
BEHIND = "behind a sample that ended the run"


class _Collector:
    """A sink that keeps what it is given."""

    def __init__(self) -> None:
        self.outputs: list[Mapping[str, Array]] = []
        self.rows: list[Sequence[int]] = []

    def write(self, outputs: Mapping[str, Array], kept: Mapping[str, Sequence[Any]]) -> None:
        self.outputs.append(outputs)
        self.rows.append(kept[_ROW])

    def flush(self) -> None:
        """Nothing waits here."""

    def finish(self) -> None:
        """Nothing waits here."""


@dataclass(frozen=True, slots=True)
class Fed:
    """What came of a block.

    Args:
        rows: which samples of the block have outputs.
        outputs: `(len(rows), *shape)` by name.
        flags: of these samples; those that stand for a bad one are `HELD`.
        was_bad: which samples of the block the model did not take.
        error: a sample could not be used, and the policy is to stop there.
    """

    rows: NDArray[np.intp]
    outputs: Mapping[str, Array]
    flags: NDArray[np.uint8]
    was_bad: NDArray[np.bool_]
    error: StreamError | None = None


@dataclass(slots=True)
class Feeder:
    """Feeds one stream.

    Args:
        session: runs the model.
        policy: for samples that the model does not take.
        counters: of the stream.
        reset_every: see `Replay`.
    """

    session: Session
    policy: BadSamplePolicy
    counters: Counters
    reset_every: int | None = None
    faults: dict[int, str] = field(default_factory=dict)
    """Why samples are `INVALID`, by number; taken out when they come by."""
    replay: Replay = field(init=False)
    _collector: _Collector = field(default_factory=_Collector)

    def __post_init__(self) -> None:
        self.replay = Replay(
            self.session, _NoSource(), self._collector, self.policy, self.reset_every
        )

    def feed(self, block: Block) -> Fed:
        """Feed a block."""
        faults = self._faults(block)
        numbers = block.sequence
        rows_of = range(len(block))
        batch = Batch(block.frames, lambda i: f"sample {numbers[i]}", {_ROW: rows_of}, faults)
        collector, replay = self._collector, self.replay
        collector.outputs.clear()
        collector.rows.clear()
        bad_before, fed_before = replay.bad_by_reason.copy(), replay.frames_fed
        seen_before = replay.frames_in
        error = None
        try:
            replay.take(batch)
        except StreamError as exc:
            error = exc
        rows = np.array([i for part in collector.rows for i in part], np.intp)
        held = int(replay.was_bad[rows].sum()) if len(rows) else 0
        for reason, count in (replay.bad_by_reason - bad_before).items():
            self.counters.drop(reason, count)
        self.counters.fed += replay.frames_fed - fed_before + held
        self.counters.filled += held
        self.counters.drop(BEHIND, len(block) - (replay.frames_in - seen_before))
        flags = block.flags[rows]
        if held:
            is_held = replay.was_bad[rows]
            flags = np.where(is_held, (flags & ~_INVALID) | np.uint8(SampleFlag.HELD), flags)
        return Fed(rows, _join(collector.outputs), flags, replay.was_bad, error)

    def _faults(self, block: Block) -> dict[int, Fault]:
        if len(self.faults) > _MOST_FAULTS:
            self.faults.clear()  # those that stages dropped are never asked for
        invalid = np.flatnonzero(block.flags & _INVALID)
        faults = {}
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
