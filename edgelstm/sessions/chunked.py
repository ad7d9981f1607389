"""Chunks of a continuous stream: one step takes several frames, which the code computes in turn.

The code is that of the stream itself, so that a chunk is as many of its steps, to the bit, with
their states, delays and strides; `run` takes any number of frames, whole chunks or not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from edgelstm.engines.base import StepFunction
from edgelstm.errors import NonFiniteStateError, SampleShapeError
from edgelstm.memory import allocate_block
from edgelstm.samples import Frame, Result, by_name, convert_sample
from edgelstm.sessions.base import Array, view
from edgelstm.sessions.due import due_rows, is_due
from edgelstm.sessions.stream import StreamSession
from edgelstm.signature import Signature, TensorSpec


class ChunkedSession(StreamSession):
    """One stream, fed in chunks by `step`, or in blocks of any length by `run` and `finish`.

    `run` gives what single frames give: of any-time outputs a row for every frame.
    """

    _use = "step(chunk) or run(frames)"

    __slots__ = (
        "_chunk_dtype",
        "_chunk_inputs",
        "_chunk_outputs",
        "_chunk_result",
        "_chunk_shape",
        "_chunk_specs",
        "_run_chunk",
    )

    def _prepare(self) -> None:
        super()._prepare()
        signature = self._signature
        count = signature.chunk
        packed = allocate_block(count * signature.input_bytes)
        room = allocate_block(count * signature.output_bytes)
        inputs = packed.reshape(count, signature.input_bytes)
        outputs = room.reshape(count, signature.output_bytes)
        self._run_chunk: StepFunction = self._kernel.bind_run(self._blocks, inputs, outputs, count)
        self._chunk_specs = [chunk_of_frames(spec, count) for spec in signature.inputs]
        self._chunk_inputs = [view(inputs, spec, count) for spec in signature.inputs]
        self._chunk_outputs = [view(outputs, spec, count) for spec in signature.outputs]
        rows = [rows_of_chunk(spec, count) for spec in signature.outputs]
        self._chunk_result = self._as_result(
            [each[place] for each, place in zip(self._chunk_outputs, rows, strict=True)]
        )
        # One input takes the short way through `step`; no array passes its check else.
        is_simple = len(self._inputs) == 1 and signature.inputs[0].time_axis is not None
        self._chunk_shape = self._chunk_inputs[0].shape if is_simple else None
        self._chunk_dtype = self._chunk_inputs[0].dtype if is_simple else None

    def step(self, frame: Frame) -> Result:
        """Feed one chunk: as many frames as `signature.chunk` says, one after another.

        Args:
            frame: an array `(chunk, *frame)`, or, where the model has several inputs, a dict of
                them by name; an input that is not along time has one value for all of them.

        Returns:
            The new rows of the output `(chunk / stride, *output)`, of an any-time output what it
            is behind the last frame; views that the next step overwrites (copy them to keep them),
            with several outputs in a dict. Fewer rows in the first steps of an output that is
            late, and None where it has nothing new.

        Raises:
            StreamError: a frame does not fit, or a state after it would not be finite, or the
                stream is over; the state is as before the chunk.
        """
        turn = self._turn
        try:
            turn.take()
        except IndexError:
            turn.expect_free()
        try:
            if (
                type(frame) is np.ndarray
                and frame.dtype is self._chunk_dtype
                and frame.shape == self._chunk_shape
            ):
                self._chunk_inputs[0][...] = frame
            else:
                self._expect_open()
                self._fill_chunk(frame)
            late = None if self._clock is None else self._late_rows()
            before = None
            if self._signature.checks_states:
                self._settle()
                before = self._blocks.state.copy()
            code = self._code(self._run_chunk())
            if code:
                self._refuse_chunk(code, before)
            return self._chunk_result if late is None else self._as_result(late)
        finally:
            turn.give(None)

    def advance(self, values: Mapping[str, Any]) -> Result:
        """A step of the code: one frame of a chunk."""
        return super().step(values if len(values) > 1 else next(iter(values.values())))

    def _late_rows(self) -> list[Array | None]:
        """The rows that are new behind the chunk which begins now."""
        count = self._signature.chunk
        first, end = self._expect_running(count)
        rows: list[Array | None] = []
        for spec, room in zip(self._signature.outputs, self._chunk_outputs, strict=True):
            if spec.time_axis is None:
                rows.append(room[-1] if is_due(spec, first + count - 1, end) else None)
                continue
            new = room[due_rows(spec, first, count, end)]
            rows.append(new if len(new) else None)
        return rows

    def _fill_chunk(self, data: Frame) -> None:
        """Copy the frames into the block; what a refused one leaves there is never looked at."""
        items = by_name(data, self._signature.inputs)
        pairs = zip(items, self._chunk_specs, strict=True)
        arrays = [_convert(item, spec, self._signature) for item, spec in pairs]
        for place, array in zip(self._chunk_inputs, arrays, strict=True):
            place[...] = array

    def _refuse_chunk(self, code: int, before: Array | None) -> None:
        """Refuse the chunk whole; what was computed of it is taken back."""
        if code > 0:
            self._refuse(code, self._chunk_inputs, is_block=True)
        assert before is not None
        self._settle(False)
        self._blocks.state[...] = before
        raise NonFiniteStateError(
            f"frame {-1 - code} of the chunk: {self._overflow(0, None)}", 0, None
        )

    def _close(self) -> None:
        super()._close()
        self._run_chunk, self._chunk_dtype = self._step, None


def chunk_of_frames(spec: TensorSpec, count: int) -> TensorSpec:
    """An input as a chunk takes it; one value for all frames where it is not along time."""
    if spec.time_axis is None:
        return spec
    shape = (count, *spec.shape)
    return replace(spec, shape=shape, model_shape=shape, time_axis=0, chunk_axis=0, ranges=())


def rows_of_chunk(spec: TensorSpec, count: int) -> slice | int:
    """The rows of an output that a chunk brings, once the output is warm."""
    return slice(spec.delay % spec.stride, count, spec.stride) if spec.time_axis is not None else -1


def _convert(item: object, spec: TensorSpec, signature: Signature) -> Array:
    try:
        return convert_sample(item, spec)
    except SampleShapeError as error:
        raise SampleShapeError(
            f"{error}: a step of {signature.name!r} takes {signature.chunk} frames; run() takes "
            "any number"
        ) from error
