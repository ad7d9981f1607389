"""Sessions of continuous mode: one frame a step, the state carried from frame to frame."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np

from edgelstm.admission import nearest_taken
from edgelstm.blocks import is_dense
from edgelstm.dtypes import DType
from edgelstm.errors import StreamError
from edgelstm.pace import Pace
from edgelstm.samples import Frame, Result, convert_blocks
from edgelstm.sessions.base import Array, Session, view
from edgelstm.sessions.chunks import cut_frames, join_steps
from edgelstm.sessions.due import due_rows, is_due
from edgelstm.signature import CLOCK, END, NO_END, TensorSpec

Pick: TypeAlias = Callable[[list[Array], int], list[Array]]

MOST_STEPS = 2**31 - 2
"""Frames of a run: how many are done comes back in 32 bits."""


class StreamSession(Session):
    """One stream, fed frame by frame or in blocks."""

    _use = "step(frame) or run(frames)"

    __slots__ = ("_clock", "_end", "_frame_dtype", "_frame_shape", "_input", "_pace")

    def _prepare(self) -> None:
        self._pace = Pace()
        # One input takes the short way through `step`; no array passes its check else.
        is_simple = len(self._inputs) == 1
        self._input = self._inputs[0] if is_simple else np.empty(0)
        self._frame_shape = self._input.shape if is_simple else None
        self._frame_dtype = self._input.dtype if is_simple else None
        self._clock, self._end = (self._number(name) for name in (CLOCK, END))

    def _number(self, name: str) -> Array | None:
        """A state that counts frames, in the state block."""
        for spec in self._signature.states:
            if spec.name == name and spec.dtype is DType.I32 and spec.shape == (1,):
                return np.ndarray((1,), np.int32, self._blocks.state, spec.offset_bytes)
        return None

    def step(self, frame: Frame) -> Result:
        """Feed one frame, and get what the model says after it.

        Args:
            frame: an array of exactly the input's shape and type (any strides), Python numbers
                in that shape, or, where the model has several inputs, a dict of them by name.

        Returns:
            The output as a view that the next step overwrites (copy it to keep it); with several
            outputs a dict of such views, always the same one. None in place of an output that has
            nothing new in this step, see its `delay`, `warm_up` and `stride` in the signature.

        Raises:
            StreamError: the frame does not fit, or the state after it would not be finite, or the
                stream is over; the state is as before.
        """
        turn = self._turn
        try:
            turn.take()
        except IndexError:
            turn.expect_free()
        try:
            if (
                type(frame) is np.ndarray
                and frame.dtype is self._frame_dtype
                and frame.shape == self._frame_shape
            ):
                self._input[...] = frame
            else:
                self._take_frame(frame)
            if self._clock is not None:
                return self._late_step()
            code = self._step()
            if code != self._fine and (code := self._code(code)):
                self._refuse(code, self._inputs)
            return self._result
        finally:
            turn.give(None)

    def _late_step(self) -> Result:
        """A step of a model of which not every output is new every time."""
        step, end = self._expect_running(1)
        code = self._code(self._step())
        if code:
            self._refuse(code, self._inputs)
        specs = self._signature.outputs
        new = [is_due(spec, step, end) for spec in specs]
        if len(specs) == 1:
            return self._outputs[0] if new[0] else None
        items = zip(specs, self._outputs, new, strict=True)
        return {spec.name: output if is_new else None for spec, output, is_new in items}

    def run(self, frames: Frame) -> Result:
        """Feed a block of frames in native code; the same as `step` for each of them.

        A signal is answered within a fraction of a second, and then none of the block was fed.

        Args:
            frames: `(n, *frame)`, or a dict of such blocks by name. Where a step takes several
                frames, also single ones one after another, as many as fill whole steps.

        Returns:
            Fresh arrays `(n, *output)`, one or a dict by name; of single frames outputs for single
            frames, where the model has them. Of outputs that are late or slower than the input only
            the rows that are new.

        Raises:
            StreamError: a frame does not fit, or the stream is over; none of the block was fed.
            NonFiniteStateError: a state would not be finite after one of the frames; those before
                it were fed: the error holds their number and outputs.
        """
        cut, is_single = cut_frames(frames, self._signature.inputs)
        with self._turn:
            self._expect_open()
            result = self._run(convert_blocks(cut, self._signature.inputs))
        return join_steps(result, self._signature.outputs) if is_single else result

    def finish(self) -> Result:
        """Tell that the recording is over, and get what the model still gives behind its end.

        Layers that look ahead (convolutions with padding at their end, for one) see their own
        padding there. Before the next recording there must be a `reset()`.

        Returns:
            Fresh arrays `(n, *output)`, one or a dict by name; n is 0 where nothing is late.
        """
        with self._turn:
            self._expect_open()
            tail = self._signature.tail
            blocks = [frames_behind(spec, place, tail) for spec, place in self._places]
            if self._end is not None and self._clock is not None:
                self._settle()
                self._expect_running(0)
                self._end[...] = self._clock
            return self._run(blocks, is_behind=True)

    def _expect_running(self, frames: int) -> tuple[int, int | None]:
        """The number of the next step, and where the recording ended.

        Raises:
            StreamError: it has ended, or ends within so many frames.
        """
        assert self._clock is not None
        step = int(self._clock[0])
        end = None if self._end is None or self._end[0] == NO_END else int(self._end[0])
        name, most = self._signature.name, self._signature.most_frames
        if end is not None:
            raise StreamError(
                f"the stream of {name!r} has ended behind frame {end - 1}: reset() begins a new one"
            )
        if most is not None and step + frames > most:
            raise StreamError(
                f"frame {max(step, most)} of the stream: {name!r} has a table for {most} frames, "
                "and a stream ends behind them: reset() begins a new one"
            )
        return step, end

    def _run(self, blocks: list[Array], *, is_behind: bool = False) -> Result:
        signature = self._signature
        n_steps = len(blocks[0]) if blocks else 0
        inputs = _pack(blocks, signature.inputs, signature.input_bytes)
        results, outputs = _make_room(n_steps, signature.outputs, signature.output_bytes)
        if n_steps:
            self._settle()
            pick = self._picker(n_steps, is_behind=is_behind)
            if n_steps > MOST_STEPS:
                raise StreamError(f"a block of {n_steps} frames: run takes {MOST_STEPS} at most")
            code = self._run_stretches(inputs, outputs, n_steps)
            if code < 0:
                done = pick(results, -1 - code)
                raise self._overflow(-1 - code, self._as_result(done))
            if code:
                self._refuse(code, blocks, is_block=True)
            for block, place in zip(blocks, self._inputs, strict=True):
                place[...] = block[-1]
            return self._as_result(pick(results, n_steps))
        return self._as_result(results)

    def _picker(self, n_steps: int, *, is_behind: bool) -> Pick:
        """What takes the new rows out of those of so many steps, in arrays of their own.

        Views of frames that also hold other outputs would keep all of those alive.
        """
        specs = self._signature.outputs
        if self._clock is None:
            return lambda results, n: [np.ascontiguousarray(result[:n]) for result in results]
        step, end = int(self._clock[0]), None
        if is_behind:
            end = step
        else:
            self._expect_running(n_steps)

        def pick(results: list[Array], count: int) -> list[Array]:
            pairs = zip(specs, results, strict=True)
            return [
                np.ascontiguousarray(result[due_rows(spec, step, count, end)])
                for spec, result in pairs
            ]

        return pick

    def _run_stretches(self, inputs: Array, outputs: Array, n_steps: int) -> int:
        """Native calls that a signal can come between; unless all are done, none was."""
        if n_steps <= self._pace.steps:
            return self._code(self._kernel.bind_run(self._blocks, inputs, outputs, n_steps)())
        state = self._blocks.state
        before = state.copy()
        try:
            for part in self._pace.stretches(n_steps):
                steps = part.stop - part.start
                run = self._kernel.bind_run(self._blocks, inputs[part], outputs[part], steps)
                code = self._code(run())
                if code < 0:  # -1 - k: the k frames before stay fed, and those of the stretches
                    done: int = part.start
                    return code - done
                if code:
                    break
        except BaseException:
            state[...] = before
            raise
        if code:
            state[...] = before
        return code

    def advance(self, values: Mapping[str, Any]) -> Result:
        """A step."""
        return self.step(values if len(values) > 1 else next(iter(values.values())))

    def advance_all(self, blocks: Mapping[str, Any]) -> Result:
        """A run."""
        return self.run(blocks)

    def _close(self) -> None:
        self._frame_dtype = None
        super()._close()

    def _take_frame(self, frame: Frame) -> None:
        self._expect_open()
        self._fill(frame)


def frames_behind(spec: TensorSpec, last: Array, count: int) -> Array:
    """What is fed behind the end: nobody looks at frames; what has no time is held."""
    frame = np.zeros_like(last) if spec.time_axis is not None else np.nan_to_num(last)
    return np.repeat(nearest_taken(frame, spec)[None], count, axis=0)


def _pack(blocks: list[Array], specs: tuple[TensorSpec, ...], size_bytes: int) -> Array:
    """Frames of all inputs side by side, as the native code wants them."""
    if is_dense(specs, size_bytes):
        return np.ascontiguousarray(blocks[0])
    n_steps = len(blocks[0]) if blocks else 0
    packed = np.zeros((n_steps, size_bytes), np.uint8)
    if n_steps:
        for block, spec in zip(blocks, specs, strict=True):
            view(packed, spec, n_steps)[...] = block
    return packed


def _make_room(
    n_steps: int, specs: tuple[TensorSpec, ...], size_bytes: int
) -> tuple[list[Array], Array]:
    """Where the outputs of n steps appear, and the block of memory that they stand in."""
    if is_dense(specs, size_bytes) or n_steps == 0:
        results = [np.empty((n_steps, *spec.shape), spec.dtype.numpy) for spec in specs]
        return results, results[0] if results else np.empty((0, size_bytes), np.uint8)
    room = np.empty((n_steps, size_bytes), np.uint8)
    return [view(room, spec, n_steps) for spec in specs], room
