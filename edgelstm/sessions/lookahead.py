"""Look-ahead mode: answers come when some further frames are there, for backward layers to see.

Frames are kept until a chunk of N and the L behind them is whole. One step of the code computes it:
forward halves go on from the state after the N frames of the chunk before, backward halves begin
afresh with its last frame. At the end of a recording the frames that are there are the last ones.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from math import prod
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from edgelstm.admission import nearest_taken, takes
from edgelstm.engines.base import Kernel
from edgelstm.errors import NonFiniteStateError, StreamError
from edgelstm.samples import Frame, Result, by_name, convert_blocks, convert_sample, refusal_error
from edgelstm.sessions.base import Array, Session, SessionMode
from edgelstm.sessions.stream import StreamSession
from edgelstm.signature import THERE, LookaheadPlan, Signature, TensorSpec
from edgelstm.snapshot import Snapshot
from edgelstm.state_access import find_state
from edgelstm.turn import Turn

_HEAD = struct.Struct("<qqq?")
"""Frames fed since the stream began, frames kept, answers that wait, whether it has ended."""

_MOST_CHUNKS = 64
"""Chunks that are handed to the code at once: memory of their frames."""


class LookaheadSession(Session):
    """One stream whose answers are late.

    `run` gives all answers that are known: L to N - 1 + L frames late. `step` gives one at most, so
    that they come evenly, N - 1 + L frames late; `finish` gives the rest.
    """

    _use = "step(frame) or run(frames), and finish()"

    __slots__ = (
        "_at",
        "_chunk",
        "_count",
        "_frames",
        "_has_ended",
        "_plan",
        "_waiting",
    )

    def __init__(
        self,
        kernel: Kernel,
        signature: Signature,
        state_init: bytes | memoryview,
        scratch_bytes: int,
        model_id: str,
    ) -> None:
        assert signature.lookahead is not None
        self._kernel, self._signature, self._model_id = kernel, signature, model_id
        self._plan: LookaheadPlan = signature.lookahead
        self._turn = Turn(f"the session of {signature.name!r}")
        self._chunk: StreamSession | None = StreamSession(
            kernel, self._plan.kernel, state_init, scratch_bytes, model_id
        )
        self._prepare()
        self._begin()

    def _prepare(self) -> None:
        """Room for the frames of a chunk; of inputs without time for the newest value."""
        self._frames = [
            np.zeros(
                ((self._plan.span,) if _has_time(spec) else (1,)) + spec.shape, spec.dtype.numpy
            )
            for spec in self._signature.inputs
        ]

    def _begin(self) -> None:
        self._at = self._count = 0
        self._has_ended = False
        self._waiting = self._nothing()

    def step(self, frame: Frame) -> Result:
        """Feed one frame.

        Args:
            frame: as for the steps of a stream.

        Returns:
            The next answer, fresh arrays, N - 1 + L frames after its frame; None before.

        Raises:
            StreamError: the frame does not fit, or a state would not be finite after the chunk that
                it fills, or the stream is over; nothing was changed.
        """
        with self._turn:
            code = self._expect_running()
            specs = self._signature.inputs
            items = [
                convert_sample(item, spec)
                for item, spec in zip(by_name(frame, specs), specs, strict=True)
            ]
            for item, spec in zip(items, specs, strict=True):
                if not takes(item, spec):
                    raise refusal_error(item, spec, is_block=False)
            for room, item, spec in zip(self._frames, items, specs, strict=True):
                room[self._count if _has_time(spec) else 0] = item
            if self._count + 1 == self._plan.span:
                try:
                    rows = self._compute(code)
                except NonFiniteStateError as error:
                    raise self._overflow(0, None) from error
                self._keep(rows)
                self._drop(self._plan.chunk)
            self._count += 1
            self._at += 1
            return self._next()

    def run(self, frames: Frame) -> Result:
        """Feed a block of frames; the answers are those of `step`, as soon as they are known.

        Args:
            frames: `(n, *frame)`, or a dict of such blocks by name.

        Returns:
            Fresh arrays `(answers, *output)`, one or a dict by name.

        Raises:
            StreamError: a frame does not fit, or the stream is over; none of the block was fed.
            NonFiniteStateError: a state would not be finite after a chunk that is filled by one of
                the frames; those before it were fed: the error holds their number and the answers.
        """
        with self._turn:
            code = self._expect_running()
            specs = self._signature.inputs
            blocks = convert_blocks(frames, specs)
            for block, spec in zip(blocks, specs, strict=True):
                if not takes(block, spec):
                    raise refusal_error(block, spec, is_block=True)
            before = code.snapshot()
            waiting = self._waiting
            try:
                fed = self._feed(code, blocks)
            except BaseException:
                code.restore(before)
                self._waiting = waiting
                raise
            answers, self._waiting = self._waiting, self._nothing()
            if fed < len(blocks[0]):
                raise self._overflow(fed, self._as_result(answers))
            return self._as_result(answers)

    def _feed(self, code: StreamSession, blocks: Sequence[Array]) -> int:
        """Compute the chunks that are whole; how many frames were fed before a state overflowed."""
        plan, specs = self._plan, self._signature.inputs
        count = len(blocks[0])
        joined = [
            np.concatenate([room[: self._count], block]) if _has_time(spec) else block
            for room, block, spec in zip(self._frames, blocks, specs, strict=True)
        ]
        total = self._count + count
        chunks = max(0, (total - plan.span) // plan.chunk + 1)
        done = 0
        while done < chunks:
            part = range(done, min(done + _MOST_CHUNKS, chunks))
            try:
                result = code.run(self._chunks(joined, part))
            except NonFiniteStateError as error:
                if error.frames_done:
                    self._keep(self._rows(error.outputs))
                done += error.frames_done
                total = done * plan.chunk + plan.span - 1
                break
            self._keep(self._rows(result))
            done = part.stop
        fed = total - self._count
        if fed:
            first = done * plan.chunk
            for room, frames, spec in zip(self._frames, joined, specs, strict=True):
                if _has_time(spec):
                    room[: total - first] = frames[first:total]
                else:
                    room[0] = frames[fed - 1]
            self._count = total - first
            self._at += fed
        return fed

    def _chunks(self, joined: Sequence[Array], part: range) -> dict[str, Array]:
        """Frames as the code takes them, chunk by chunk."""
        plan, found = self._plan, {}
        for frames, spec, inner in zip(
            joined, self._signature.inputs, plan.kernel.inputs, strict=True
        ):
            if inner.chunk_axis is None:
                ends = np.arange(part.start, part.stop) * plan.chunk + plan.span - 1 - self._count
                found[spec.name] = frames[ends]
                continue
            first = part.start * plan.chunk
            last = (part.stop - 1) * plan.chunk + plan.span
            windows = sliding_window_view(frames[first:last], plan.span, axis=0)[:: plan.chunk]
            found[spec.name] = np.ascontiguousarray(np.moveaxis(windows, -1, 1 + inner.chunk_axis))
        return found

    def _compute(self, code: StreamSession) -> list[Array]:
        """Answers for the frames that are kept, `(N, *output)` each."""
        values: dict[str, Any] = {}
        for room, inner in zip(self._frames, self._plan.kernel.inputs, strict=True):
            axis = inner.chunk_axis
            values[inner.name] = room[0] if axis is None else np.moveaxis(room, 0, axis)
        result = code.advance(values)
        if isinstance(result, dict):
            result = {name: output[None] for name, output in result.items()}
        return self._rows(result if isinstance(result, dict) else result[None])

    def _rows(self, result: Any) -> list[Array]:
        """Outputs of chunks, one frame after another."""
        inner = self._plan.kernel.outputs
        arrays = [result[spec.name] for spec in inner] if isinstance(result, dict) else [result]
        rows = []
        for array, spec, code in zip(arrays, self._signature.outputs, inner, strict=True):
            assert code.chunk_axis is not None
            moved = np.moveaxis(array, 1 + code.chunk_axis, 1)
            rows.append(np.array(moved).reshape(-1, *spec.shape))
        return rows

    def finish(self) -> Result:
        """Tell that the recording is over, and get all answers that are left.

        Backward layers begin with the last frame. Before the next recording there must be a
        `reset()`.

        Returns:
            Fresh arrays `(n, *output)`, one or a dict by name.
        """
        with self._turn:
            code = self._expect_running()
            before, waiting = code.snapshot(), self._waiting
            kept = [room.copy() for room in self._frames]
            left = self._count
            try:
                for room, spec in zip(self._frames, self._signature.inputs, strict=True):
                    if _has_time(spec):
                        room[left:] = nearest_taken(np.zeros_like(room[left:]), spec)
                while left > 0:
                    code.set_state(THERE, left)
                    answers = min(left, self._plan.chunk)
                    self._keep([rows[:answers] for rows in self._compute(code)])
                    self._drop(answers)
                    left -= answers
            except BaseException:
                code.restore(before)
                self._waiting, self._frames = waiting, kept
                raise
            self._count, self._has_ended = 0, True
            answers_left, self._waiting = self._waiting, self._nothing()
            return self._as_result(answers_left)

    def _drop(self, frames: int) -> None:
        """The oldest frames are answered."""
        for room, spec in zip(self._frames, self._signature.inputs, strict=True):
            if _has_time(spec) and frames < len(room):
                room[:-frames] = room[frames:]
        self._count -= frames

    def _keep(self, rows: Sequence[Array]) -> None:
        self._waiting = [
            np.concatenate([old, new]) if len(old) else new
            for old, new in zip(self._waiting, rows, strict=True)
        ]

    def _next(self) -> Result:
        """The answer that waits the longest."""
        if not self._waiting or not len(self._waiting[0]):
            return None
        first = [rows[0] for rows in self._waiting]
        self._waiting = [rows[1:] for rows in self._waiting]
        return self._as_result(first)

    def _nothing(self) -> list[Array]:
        return [np.empty((0, *spec.shape), spec.dtype.numpy) for spec in self._signature.outputs]

    def advance(self, values: Mapping[str, Any]) -> Result:
        """A step."""
        return self.step(values if len(values) > 1 else next(iter(values.values())))

    def advance_all(self, blocks: Mapping[str, Any]) -> Result:
        """A run."""
        return self.run(blocks)

    def reset(self, layers: Iterable[str] | None = None) -> None:
        """Begin a new stream; answers that wait are dropped.

        Raises:
            StreamError: layers are named; frames of the chunk that fills up wait for all of them.
        """
        with self._turn:
            if layers is not None:
                raise StreamError(
                    f"reset(layers=...): {self._signature.name!r} takes chunks with a look-ahead, "
                    "and the frames of the one that fills up wait for all layers; reset() begins a "
                    "new stream, and --mode stream has one state a layer"
                )
            self._expect_code().reset()
            self._begin()

    def snapshot(self) -> Snapshot:
        """States, the frames that are kept and the answers that wait; `bytes()` can be stored."""
        with self._turn:
            code = self._expect_code()
            waiting = len(self._waiting[0])
            head = _HEAD.pack(self._at, self._count, waiting, self._has_ended)
            kept = [
                room[: self._count] if _has_time(spec) else room
                for room, spec in zip(self._frames, self._signature.inputs, strict=True)
            ]
            parts = [array.tobytes() for array in (*kept, *self._waiting)]
            return Snapshot(self._model_id, head + code.snapshot().state + b"".join(parts))

    def _restore(self, snapshot: Snapshot | bytes | bytearray | memoryview) -> None:
        code = self._expect_code()
        if not isinstance(snapshot, Snapshot):
            snapshot = Snapshot.from_bytes(snapshot)
        name = self._signature.name
        if snapshot.model_id != self._model_id:
            raise StreamError(
                f"the snapshot is of another model than {name!r}, or of another look-ahead"
            )
        before = code.snapshot()
        state, size = snapshot.state, len(before.state)
        if len(state) < _HEAD.size + size:
            raise StreamError(f"the snapshot is no state of the look-ahead of {name!r}")
        at, count, waiting, has_ended = _HEAD.unpack_from(state)
        if not (0 <= count < self._plan.span and count <= at and 0 <= waiting <= self._plan.span):
            raise StreamError(f"the snapshot of {name!r} counts its frames wrongly")
        shapes = [
            ((count if _has_time(spec) else 1), *spec.shape) for spec in self._signature.inputs
        ]
        specs = (*self._signature.inputs, *self._signature.outputs)
        shapes += [(waiting, *spec.shape) for spec in self._signature.outputs]
        arrays = _unpack(state[_HEAD.size + size :], shapes, specs)
        if arrays is None:
            raise StreamError(f"the snapshot of {name!r} does not hold the frames that it counts")
        inputs = len(self._signature.inputs)
        for frames, spec in zip(arrays[:inputs], self._signature.inputs, strict=True):
            if not takes(frames, spec):
                raise StreamError(f"the snapshot's frames of {spec.name!r} are not possible")
        code.restore(Snapshot(self._model_id, state[_HEAD.size : _HEAD.size + size]))
        code.set_state(THERE, self._plan.span)
        for room, frames in zip(self._frames, arrays[:inputs], strict=True):
            room[: len(frames)] = frames
        self._waiting = [rows.copy() for rows in arrays[inputs:]]
        self._at, self._count, self._has_ended = at, count, has_ended

    def set_state(self, name: str, value: Any) -> None:
        """Let the forward halves go on from another value of one state.

        Args:
            name: of the state, see `signature.states`.
            value: in the state's shape, but for extents of one; a single number fills it.

        Raises:
            StreamError: no such state, or a value that does not fit it; the state is as before.
        """
        with self._turn:
            code = self._expect_code()
            code.set_state(find_state(self._signature, name).name, value)

    def get_state(self, name: str) -> Array:
        """A copy of one state, as it is behind the frames that are answered.

        Raises:
            StreamError: no such state.
        """
        with self._turn:
            code = self._expect_code()
            return code.get_state(find_state(self._signature, name).name)

    def _close(self) -> None:
        if self._chunk is not None:
            self._chunk.close()
        self._chunk = None

    def _expect_open(self) -> None:
        self._expect_code()

    def _expect_code(self) -> StreamSession:
        if self._chunk is None:
            raise StreamError(
                f"the session of {self._signature.name!r} is closed: make a new one with "
                "artifact.session()"
            )
        return self._chunk

    def _expect_running(self) -> StreamSession:
        code = self._expect_code()
        if self._has_ended:
            raise StreamError(
                f"the stream of {self._signature.name!r} has ended behind frame {self._at - 1}: "
                "reset() begins a new one"
            )
        return code


def _has_time(spec: TensorSpec) -> bool:
    """Whether an input brings something new with each frame that a chunk holds."""
    return spec.time_axis is not None


def _unpack(
    data: bytes, shapes: Sequence[tuple[int, ...]], specs: Sequence[TensorSpec]
) -> list[Array] | None:
    """Arrays that stand behind each other; None where there are more or fewer bytes."""
    sizes = [prod(shape) * spec.dtype.itemsize for shape, spec in zip(shapes, specs, strict=True)]
    if sum(sizes) != len(data):
        return None
    found, at = [], 0
    for shape, spec, size in zip(shapes, specs, sizes, strict=True):
        found.append(np.frombuffer(data[at : at + size], spec.dtype.numpy).reshape(shape))
        at += size
    return found


LOOKAHEAD = SessionMode(
    name="lookahead",
    session=LookaheadSession,
    unit="frame",
    units="frames",
    consumes="frame",
    entry="step",
    use=LookaheadSession._use,
    has_blocks=True,
    takes_many=False,
    runner="edgelstm.io.stream_run:StreamRun",
    described_size=prod,
)
