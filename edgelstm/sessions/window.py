"""Window mode: each window from fresh state, as in training, its answer with its last frame.

Windows begin every `hop` frames. Where the model is causal, those that are open at once are slots,
stepped side by side; elsewhere the frames are kept, and a whole window is computed when it closes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from edgelstm.admission import takes
from edgelstm.engines.base import Kernel
from edgelstm.errors import StreamError
from edgelstm.samples import Frame, Result, by_name, convert_blocks, convert_sample, refusal_error
from edgelstm.sessions.base import Array, Session, SessionMode
from edgelstm.sessions.smoothing import Smoothing
from edgelstm.sessions.window_ways import Staggered, Whole, WindowWay, opened_windows
from edgelstm.signature import Signature, WindowPlan
from edgelstm.snapshot import Snapshot
from edgelstm.turn import Turn

_WAYS: dict[str, type[WindowWay]] = {"stream": Staggered, "call": Whole}
"""By the mode of the kernel."""

_HEAD = struct.Struct("<qq")
"""Frames fed since the stream began, and since the session did."""


@dataclass(frozen=True, slots=True)
class Window:
    """What an answer stands for.

    Args:
        first: its first frame; frames are counted from 0 since the session began.
        last: its last frame.
        bad: how many of its frames stand for samples that the model did not take.
    """

    first: int
    last: int
    bad: int


@dataclass(frozen=True, slots=True)
class _Walk:
    """What comes out: answers by output, and the windows that they are of."""

    rows: list[list[Array]]
    closed: list[Window] = field(default_factory=list)


class WindowSession(Session):
    """One stream whose windows are answered one by one.

    `step` gives None where no window closes, and `run` the answers of the windows that close;
    `windows` tells which those were.
    """

    _use = "step(frame) or run(frames)"

    __slots__ = (
        "_at",
        "_bad",
        "_fed",
        "_frame_dtype",
        "_frame_shape",
        "_input",
        "_marks",
        "_next",
        "_plan",
        "_smoothing",
        "_way",
        "_windows",
    )

    def __init__(
        self,
        kernel: Kernel,
        signature: Signature,
        state_init: bytes | memoryview,
        scratch_bytes: int,
        model_id: str,
    ) -> None:
        assert signature.window is not None
        self._kernel, self._signature, self._model_id = kernel, signature, model_id
        self._plan: WindowPlan = signature.window
        self._turn = Turn(f"the session of {signature.name!r}")
        self._state_init = np.frombuffer(state_init, np.uint8)
        way = _WAYS[self._plan.kernel.mode]
        self._way: WindowWay | None = way(
            kernel, signature, self._state_init, scratch_bytes, model_id
        )
        self._smoothing = None
        if self._plan.smoothing:
            self._smoothing = Smoothing(
                self._plan.smoothing, self._plan.smoothed, signature.outputs
            )
        self._at = self._fed = self._next = 0
        self._bad = np.zeros(self._plan.slots, np.int64)
        self._marks: NDArray[np.int64] | None = None
        self._windows: tuple[Window, ...] = ()
        self._prepare()

    def _prepare(self) -> None:
        """One input takes the short way through `step`; no array passes its check else."""
        place = self._expect_way().place_for_frame()
        self._input = np.empty(0) if place is None else place
        self._frame_shape = None if place is None else place.shape
        self._frame_dtype = None if place is None else place.dtype

    @property
    def windows(self) -> tuple[Window, ...]:
        """What the answers of the last `step` or `run` stand for, in their order."""
        return self._windows

    def step(self, frame: Frame) -> Result:
        """Feed one frame.

        Args:
            frame: as for the steps of a stream.

        Returns:
            The window's outputs, fresh arrays, where the frame closes one; else None.

        Raises:
            StreamError: the frame does not fit, or a state would not be finite after it; nothing
                was changed.
        """
        with self._turn:
            if (
                type(frame) is np.ndarray
                and frame.dtype is self._frame_dtype
                and frame.shape == self._frame_shape
            ):
                return self._step_frame(frame)
            self._expect_open()
            specs = self._signature.inputs
            items = by_name(frame, specs)
            blocks = [
                convert_sample(item, spec)[None] for item, spec in zip(items, specs, strict=True)
            ]
            self._check(blocks, is_block=False)
            answers, fed = self._feed(blocks)
            if not fed:
                raise self._overflow(0, None)
            return self._as_result([rows[0] for rows in answers]) if self._windows else None

    def _step_frame(self, frame: Array) -> Result:
        way, plan, at = self._expect_way(), self._plan, self._at
        newest, phase = divmod(at, plan.hop)
        self._input[...] = frame
        if newest * plan.hop + plan.frames <= at and not self._opened():
            self._check([frame[None]], is_block=False)  # between windows: no code looks at it
        else:
            if phase == 0:
                way.begin(newest)
                self._bad[newest % plan.slots] = 0
            if way.advance_frame():
                raise refusal_error(self._input, self._signature.inputs[0], is_block=False)
        self._at = at + 1
        self._fed += 1
        closing, phase = divmod(at + 1 - plan.frames, plan.hop)
        if phase or closing < self._next:
            self._windows = ()
            return None
        bad = int(self._bad[closing % plan.slots])
        self._windows = (Window(self._fed - plan.frames, self._fed - 1, bad),)
        answers = way.answer(closing)
        if self._smoothing is not None:
            rows = self._smoothing.apply([array[None] for array in answers])
            return self._as_result([array[0] for array in rows])
        return self._as_result([array.copy() for array in answers])

    def run(self, frames: Frame) -> Result:
        """Feed a block of frames; the same as `step` for each of them.

        Args:
            frames: `(n, *frame)`, or a dict of such blocks by name.

        Returns:
            Fresh arrays `(windows, *output)` of the windows that closed, one or a dict by name.

        Raises:
            StreamError: a frame does not fit; none of the block was fed.
            NonFiniteStateError: a state would not be finite after one of the frames; those before
                it were fed: the error holds their number, and the answers until then.
        """
        with self._turn:
            self._expect_open()
            blocks = convert_blocks(frames, self._signature.inputs)
            self._check(blocks, is_block=True)
            answers, fed = self._feed(blocks)
            if fed < len(blocks[0]):
                raise self._overflow(fed, self._as_result(answers))
            return self._as_result(answers)

    def mark(self, bad: NDArray[np.int64]) -> None:
        """Say of the frames of the next `run` how many bad samples each stands for.

        Shapes:
            bad `(n,)`.
        """
        self._marks = bad

    def answered(self, count: int) -> NDArray[np.int64]:
        """The frames that closed windows."""
        return np.array([w.last - self._fed + count for w in self._windows], np.int64)

    def about_answers(self) -> dict[str, list[int]]:
        """First and last frame of each window, counted from 1, and its bad ones."""
        return {
            "first_frame": [window.first + 1 for window in self._windows],
            "last_frame": [window.last + 1 for window in self._windows],
            "bad_frames": [window.bad for window in self._windows],
        }

    def _check(self, blocks: Sequence[Array], *, is_block: bool) -> None:
        """Refuse what an input does not take, before any of it is fed."""
        for block, spec in zip(blocks, self._signature.inputs, strict=True):
            if not takes(block, spec):
                self._marks = None
                raise refusal_error(block if is_block else block[0], spec, is_block)

    def _feed(self, blocks: Sequence[Array]) -> tuple[list[Array], int]:
        """Answers by output, and how many frames were fed."""
        marks, self._marks = self._marks, None
        count = len(blocks[0])
        self._expect_way().take(blocks)
        walk = _Walk([[] for _ in self._signature.outputs])
        done = self._feed_complete(walk, count) if marks is None else 0
        if done < count:
            done = self._walk(walk, done, count, marks)
        self._windows = tuple(walk.closed)
        answers = [
            np.concatenate(kept) if kept else np.empty((0, *spec.shape), spec.dtype.numpy)
            for kept, spec in zip(walk.rows, self._signature.outputs, strict=True)
        ]
        return answers if self._smoothing is None else self._smoothing.apply(answers), done

    def _feed_complete(self, walk: _Walk, count: int) -> int:
        """Windows that begin and end among the frames, if there are enough to do them at once.

        Those that are open before are stepped to their ends; those that stay open are left.
        """
        plan, at = self._plan, self._at
        first = -(-at // plan.hop)
        windows = (at + count - plan.frames) // plan.hop - first + 1
        rows = self._expect_way().complete(first * plan.hop - at, windows) if windows > 1 else None
        if rows is None:
            return 0
        older = (first - 1) * plan.hop + plan.frames - at
        if first and older > 0:
            self._walk(walk, 0, older, None, begins=False)
        shift = self._fed - self._at
        for window in range(first, first + windows):
            start = window * plan.hop + shift
            walk.closed.append(Window(start, start + plan.frames - 1, 0))
        for kept, array in zip(walk.rows, rows, strict=True):
            kept.append(array)
        fed = min((first + windows) * plan.hop - at, count)
        self._at = at + fed
        self._fed = self._at + shift
        self._next = first + windows
        return fed

    def _walk(
        self,
        walk: _Walk,
        start: int,
        stop: int,
        marks: NDArray[np.int64] | None,
        *,
        begins: bool = True,
    ) -> int:
        """Feed frames from one beginning or end of a window to the next.

        Args:
            walk: gets the answers.
            start: the first of the frames taken.
            stop: behind the last.
            marks: see `mark`.
            begins: whether windows begin; those that are open end in any case.

        Returns:
            The first frame that was not fed.
        """
        way, plan = self._expect_way(), self._plan
        done = start
        while done < stop:
            newest, phase = divmod(self._at, plan.hop)
            if phase == 0 and begins:
                way.begin(newest)
                self._bad[newest % plan.slots] = 0
            size, closing = self._stretch(stop - done)
            fed = size
            if self._opened():
                fed = way.advance(done, done + size, self._at)
            if marks is not None:
                for window in self._opened():
                    self._bad[window % plan.slots] += int(marks[done : done + fed].sum())
            self._at += fed
            self._fed += fed
            done += fed
            if fed < size:
                break
            if closing is not None:
                bad = int(self._bad[closing % plan.slots])
                walk.closed.append(Window(self._fed - plan.frames, self._fed - 1, bad))
                for kept, array in zip(walk.rows, way.answer(closing), strict=True):
                    kept.append(array[None].copy())
        return done

    def _stretch(self, most: int) -> tuple[int, int | None]:
        """Frames up to the next beginning or end of a window, and the window that ends there."""
        plan, at = self._plan, self._at
        until_next = plan.hop - at % plan.hop
        oldest = self._opened()
        if not oldest:
            return min(most, until_next), None
        until_end = oldest[0] * plan.hop + plan.frames - at
        size = min(most, until_next, until_end)
        return size, oldest[0] if size == until_end else None

    def _opened(self) -> range:
        """Windows that hold the next frame and wait for their answers."""
        found = opened_windows(self._plan, self._at)
        return range(max(found.start, self._next), found.stop)

    def advance(self, values: Mapping[str, Any]) -> Result:
        """A step."""
        return self.step(values if len(values) > 1 else next(iter(values.values())))

    def advance_all(self, blocks: Mapping[str, Any]) -> Result:
        """A run."""
        return self.run(blocks)

    def reset(self, layers: Iterable[str] | None = None) -> None:
        """Begin a new stream: its first window begins with the next frame.

        Raises:
            StreamError: layers are named; each window begins from fresh state anyway.
        """
        with self._turn:
            if layers is not None:
                raise StreamError(
                    f"reset(layers=...): {self._signature.name!r} runs on windows, each of which "
                    "has states of its own; reset() begins a new stream, and --mode stream has "
                    "one state a layer"
                )
            self._expect_way().reset()
            if self._smoothing is not None:
                self._smoothing.reset()
            self._at = self._next = 0
            self._bad[:] = 0

    def snapshot(self) -> Snapshot:
        """The windows that are open, as a value; `bytes()` of it can be stored."""
        with self._turn:
            way = self._expect_way()
            head = _HEAD.pack(self._at, self._fed) + self._bad.tobytes()
            head += b"" if self._smoothing is None else self._smoothing.state()
            return Snapshot(self._model_id, head + way.state())

    def _restore(self, snapshot: Snapshot | bytes | bytearray | memoryview) -> None:
        way = self._expect_way()
        if not isinstance(snapshot, Snapshot):
            snapshot = Snapshot.from_bytes(snapshot)
        name = self._signature.name
        if snapshot.model_id != self._model_id:
            raise StreamError(
                f"the snapshot is of another model than {name!r}, or of other windows"
            )
        size = _HEAD.size + self._bad.nbytes
        if len(snapshot.state) < size:
            raise StreamError(f"the snapshot is no state of the windows of {name!r}")
        at, fed = _HEAD.unpack_from(snapshot.state)
        bad = np.frombuffer(snapshot.state, np.int64, self._bad.size, _HEAD.size)
        if not 0 <= at <= fed or (bad < 0).any():
            raise StreamError(f"the snapshot of {name!r} counts its frames wrongly")
        end = size + (0 if self._smoothing is None else self._smoothing.state_bytes)
        state = way.expect_state(snapshot.state[end:])
        if self._smoothing is not None:
            self._smoothing.restore(snapshot.state[size:end])
        self._at, self._fed, self._next = at, fed, 0
        self._bad[:] = bad
        begun = [w for w in self._opened() if w * self._plan.hop < at]
        way.restore(state, begun)

    def set_state(self, name: str, value: Any) -> None:
        """Refused: windows begin with the state that the model gives them.

        Raises:
            StreamError: always.
        """
        del value
        self._refuse_state(name)

    def get_state(self, name: str) -> Array:
        """Refused: as many states of one name are held as windows are open.

        Raises:
            StreamError: always.
        """
        self._refuse_state(name)

    def _refuse_state(self, name: str) -> NoReturn:
        raise StreamError(
            f"state {name!r} of {self._signature.name!r}: each open window has its own, which "
            "begins with the model's initial value; snapshot() and restore() keep all of them"
        )

    def _close(self) -> None:
        if self._way is not None:
            self._way.close()
        self._way = self._frame_dtype = None

    def _expect_open(self) -> None:
        self._expect_way()

    def _expect_way(self) -> WindowWay:
        if self._way is None:
            raise StreamError(
                f"the session of {self._signature.name!r} is closed: make a new one with "
                "artifact.session()"
            )
        return self._way


WINDOW = SessionMode(
    name="window",
    session=WindowSession,
    unit="frame",
    units="frames",
    consumes="frame",
    entry="step",
    use=WindowSession._use,
    has_blocks=True,
    takes_many=False,
    runner="edgelstm.io.stream_run:StreamRun",
    described_size=prod,
    refused_options=("reset_every",),
    columns=("first_frame", "last_frame", "bad_frames"),
    why_refused="begins windows in streams, and this artifact has windows of its own",
)
