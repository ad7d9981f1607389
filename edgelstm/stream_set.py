"""Many streams through one model, stepped together; each with its own state."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from edgelstm.engines.base import Kernel
from edgelstm.engines.many_streams import Runner
from edgelstm.engines.stepwise_streams import run_streams
from edgelstm.errors import CapabilityError, StreamError
from edgelstm.memory import Block, allocate_block
from edgelstm.pace import Pace
from edgelstm.samples import Frame, Result
from edgelstm.sessions import mode_of
from edgelstm.sessions.clocks import News, StreamClocks, steps_done
from edgelstm.sessions.due import due_rows
from edgelstm.sessions.stream import frames_behind
from edgelstm.signature import Signature
from edgelstm.snapshot import Snapshot, state_to_restore, state_view
from edgelstm.state_access import convert_state, states_of
from edgelstm.stream_frames import (
    Codes,
    named,
    one_frame,
    packed_inputs,
    refusal_of_streams,
    refused_codes,
    stream_blocks,
    tensor_of,
)
from edgelstm.turn import Turn, refuse_copy

Array = NDArray[Any]


class StreamSet:
    """Places for streams, numbered from 0; made by `Artifact.session(streams=N)`.

    All places are taken at first. A stream that leaves is not moved on, its rows of the outputs are
    zeros, and its place can be taken again. A frame that is refused leaves the state of its stream
    as it was; the other streams are fed, and then a RefusedStreamsError tells of it.

    Args:
        kernel: the model made ready to run; shared.
        signature: what goes in and out.
        state_init: the state block before the first step.
        scratch_bytes: size of the working memory of one stream.
        streams: how many places.
        model_id: tells models apart in snapshots.
        check_states: False where states that become infinite or NaN are accepted.
        threads: how many share the streams; started here, and never in a step.

    Raises:
        CapabilityError: the engine has no threads, or no such check where the model needs it.
        StreamError: fewer than one place, or a model compiled with `--mode call`.
    """

    def __init__(
        self,
        kernel: Kernel,
        signature: Signature,
        state_init: bytes | memoryview,
        scratch_bytes: int,
        streams: int,
        model_id: str,
        *,
        check_states: bool = True,
        threads: int = 1,
    ) -> None:
        if signature.chunk > 1:
            raise CapabilityError(
                f"a step of {signature.name!r} takes {signature.chunk} frames, and many streams "
                "are stepped frame by frame: compile it without --chunk (run() takes blocks), or "
                "open a session for each stream"
            )
        if streams < 1 or not mode_of(signature.mode).takes_many:
            raise StreamError(
                f"{streams} streams of a {signature.mode} model: open a session for each stream"
            )
        if threads < 1:
            raise ValueError(f"threads={threads}: at least one steps the streams")
        self._kernel: Kernel = kernel
        self._signature = signature
        self._state_init = np.frombuffer(state_init, np.uint8)
        self._model_id = model_id
        self._turn = Turn(f"the streams of {signature.name!r}")
        self._active = np.ones(streams, np.bool_)
        state_bytes = len(state_init)
        self._runner: Runner | None = run_streams(
            kernel,
            signature,
            streams,
            state_bytes,
            scratch_bytes,
            check_states=check_states,
            threads=threads,
        )
        self._pace = Pace()
        self._clocks = StreamClocks(signature, streams) if signature.is_late else None
        self._news: News = {}
        # One frame of all streams; steps fill and empty it.
        self._in, self._out = (
            allocate_block(streams * size)
            for size in (signature.input_bytes, signature.output_bytes)
        )
        frames, results = self._in.reshape(1, streams, -1), self._out.reshape(1, streams, -1)
        self._inputs = [tensor_of(frames, spec) for spec in signature.inputs]
        self._outputs = [tensor_of(results, spec)[0] for spec in signature.outputs]
        # One input takes the short way through `step`; no array passes its check else.
        self._input = self._inputs[0][0] if len(self._inputs) == 1 else None
        self.reset()

    def __len__(self) -> int:
        return len(self._active)

    @property
    def signature(self) -> Signature:
        """What goes in and out."""
        return self._signature

    @property
    def news(self) -> News:
        """Which rows of the last step or run are new, by output; the others are zeros.

        Of models whose outputs come later than their frames, or slower (`signature.is_late`); else
        empty, because all are new.

        Shapes:
            (streams,) behind a step, (n, streams) behind a run.
        """
        return self._news

    @property
    def active(self) -> NDArray[np.bool_]:
        """Which places are taken."""
        return self._active.copy()

    def step(self, frames: Frame, *, only: NDArray[np.bool_] | None = None) -> Result:
        """Feed one frame of every stream.

        Args:
            frames: `(streams, *frame)`, or a dict of such arrays by name.
            only: which of the active streams are fed, `(streams,)`; the others stand still, and
                their rows of the outputs are zeros. None: all of them.

        Returns:
            `(streams, *output)`, one array or a dict by name; see also `news`.

        Raises:
            RefusedStreamsError: frames of some streams do not fit; all others were fed.
            StreamError: what was given is no frame of every stream, or a stream is over; none was
                fed.
        """
        with self._turn:
            runner, room = self._expect_open(), self._input
            if (
                room is not None
                and type(frames) is np.ndarray
                and frames.dtype is room.dtype
                and frames.shape == room.shape
            ):
                room[...] = frames
            else:
                blocks = one_frame(frames, self._signature, len(self))
                for place, block in zip(self._inputs, blocks, strict=True):
                    place[...] = block
            chosen = self._chosen(only)
            if self._clocks is not None:
                self._clocks.expect_room(chosen, 1)
            if only is None:
                codes = self._run_checked(runner, self._inputs, self._in, self._out, 1)
            else:
                codes = self._step_only(runner, chosen)
            if codes is not None:
                self._out.reshape(len(self), -1)[codes != 0] = 0
            if self._clocks is not None:
                news = self._clocks.advance(steps_done(chosen, codes, 1), 1)
                self._news = {name: rows[0] for name, rows in news.items()}
                for spec, output in zip(self._signature.outputs, self._outputs, strict=True):
                    output[~self._news[spec.name]] = 0
            result = named([each.copy() for each in self._outputs], self._signature.outputs)
            if codes is not None:
                raise refusal_of_streams(
                    codes, self._inputs, self._signature, result, is_block=False
                )
            return result

    def _chosen(self, only: NDArray[np.bool_] | None) -> NDArray[np.bool_]:
        """The active streams among these."""
        if only is None:
            return self._active
        if only.shape != self._active.shape or only.dtype != np.bool_:
            raise StreamError(
                f"only= has {only.dtype} {only.shape}, expected bool {self._active.shape}"
            )
        return self._active & only

    def _step_only(self, runner: Runner, chosen: NDArray[np.bool_]) -> Codes | None:
        """One frame of some of the active streams."""
        self._out.reshape(len(self), -1)[~chosen] = 0
        runner.set_active(chosen)
        try:
            return self._run_checked(runner, self._inputs, self._in, self._out, 1, chosen)
        finally:
            runner.set_active(self._active)

    def run(self, frames: Frame) -> Result:
        """Feed a block of frames; the same as `step` for each of them.

        A stream that has a frame which is refused is fed none of the block. A signal is answered
        within a fraction of a second, and then no stream was fed.

        Args:
            frames: `(n, streams, *frame)`, or a dict of such blocks by name.

        Returns:
            `(n, streams, *output)`, one array or a dict by name; see also `news`.

        Raises:
            RefusedStreamsError: frames of some streams do not fit; all others were fed.
            StreamError: what was given is no block of frames of every stream, or a stream ends
                within it; none was fed.
        """
        with self._turn:
            return self._run(frames)

    def _run(self, frames: Frame) -> Result:
        runner, signature = self._expect_open(), self._signature
        blocks = stream_blocks(frames, signature, len(self))
        count = len(blocks[0])
        if self._clocks is not None:
            self._clocks.expect_room(self._active, count)
        inputs = packed_inputs(blocks, signature)
        shape = (count, len(self), signature.output_bytes)
        outputs = (np.empty if self._active.all() else np.zeros)(shape, np.uint8)
        codes = None
        if count:
            if count <= self._pace.steps:
                x, y = inputs.reshape(-1), outputs.reshape(-1)
                codes = self._run_checked(runner, blocks, x, y, count)
            else:
                codes = self._run_stretches(runner, blocks, inputs, outputs)
        if codes is not None:
            for stream in np.flatnonzero(codes):
                outputs[max(0, -1 - codes[stream]) :, stream] = 0
        arrays = [np.ascontiguousarray(tensor_of(outputs, spec)) for spec in signature.outputs]
        if self._clocks is not None:
            self._news = self._clocks.advance(steps_done(self._active, codes, count), count)
            for spec, array in zip(signature.outputs, arrays, strict=True):
                array[~self._news[spec.name]] = 0
            for place, block in zip(self._inputs, blocks, strict=True):
                place[0] = block[-1] if count else place[0]
        result = named(arrays, signature.outputs)
        if codes is not None:
            raise refusal_of_streams(codes, blocks, signature, result, is_block=True)
        return result

    def _run_checked(
        self,
        runner: Runner,
        blocks: list[Array],
        x: Block,
        y: Block,
        count: int,
        active: NDArray[np.bool_] | None = None,
    ) -> Codes | None:
        """Run frames; streams whose frames are refused are left out."""
        if runner.checks_frames:
            return runner.run(x, y, count)
        active = self._active if active is None else active
        codes = refused_codes(blocks, self._signature.inputs, active)
        if codes is None:
            return runner.run(x, y, count)
        with _only(runner, active & (codes == 0), active):
            later = runner.run(x, y, count)
        return codes if later is None else np.where(codes != 0, codes, later)

    def _run_stretches(
        self, runner: Runner, blocks: list[Array], inputs: Block, outputs: Block
    ) -> Codes | None:
        """Native calls that a signal can come between; unless all are done, none was."""
        before = np.concatenate([runner.read_state(i) for i in range(len(self))])
        codes = refused_codes(blocks, self._signature.inputs, self._active)
        codes = np.zeros(len(self), np.int32) if codes is None else codes
        try:
            for part in self._pace.stretches(len(inputs)):
                with _only(runner, self._active & (codes == 0), self._active):
                    x, y = inputs[part].reshape(-1), outputs[part].reshape(-1)
                    found = runner.run(x, y, part.stop - part.start)
                if found is not None:
                    # -1 - k: the k frames before stay fed, and those of the stretches before.
                    codes = np.where(found < 0, found - part.start, np.where(found, found, codes))
        except BaseException:
            runner.write_state(0, before)
            raise
        return codes if codes.any() else None

    def finish(self, stream: int) -> Result:
        """Tell that the recording of one stream is over, and get what still comes of it.

        A new stream begins at its place. See `Session.finish`.

        Returns:
            Fresh arrays `(n, *output)`, one or a dict by name; n is 0 where nothing is late.

        Raises:
            StreamError: there is no active stream of this number.
        """
        with self._turn:
            runner, signature = self._expect_open(), self._signature
            place, count = self._expect_place(stream), signature.tail
            if not self._active[place]:
                raise StreamError(f"stream {stream} is not active: join() gives the number of one")
            outputs = np.zeros((count, len(self), signature.output_bytes), np.uint8)
            step = 0
            if self._clocks is not None and count:
                state = runner.read_state(place)
                step = self._clocks.step_of(state)
                runner.write_state(place, self._clocks.ended(state))
                self._feed_behind(runner, place, outputs)
            self._begin(place)
            arrays = [
                np.ascontiguousarray(
                    tensor_of(outputs, spec)[:, place][due_rows(spec, step, count, step)]
                )
                for spec in signature.outputs
            ]
            return named(arrays, signature.outputs)

    def _feed_behind(self, runner: Runner, place: int, outputs: Block) -> None:
        """The steps of one stream that come behind its last frame."""
        specs, count = self._signature.inputs, len(outputs)
        blocks = []
        for spec, room in zip(specs, self._inputs, strict=True):
            block = np.zeros((count, *room.shape[1:]), room.dtype)
            block[:, place] = frames_behind(spec, room[0, place], count)
            blocks.append(block)
        x = packed_inputs(blocks, self._signature).reshape(-1)
        chosen = np.zeros_like(self._active)
        chosen[place] = True
        with _only(runner, chosen, self._active):
            codes = runner.run(x, outputs.reshape(-1), count)
        if codes is not None and codes.any():
            self._begin(place)
            raise refusal_of_streams(codes, blocks, self._signature, None, is_block=True)

    def reset(self, stream: int | None = None, layers: Iterable[str] | None = None) -> None:
        """Begin a new stream at one place, or at all of them.

        Args:
            stream: which; None: all.
            layers: only the states of these layers, see `Session.reset`.

        Raises:
            StreamError: there is no such stream or layer; all is as before.
        """
        with self._turn:
            if layers is None:
                self._begin(stream)
                return
            specs = states_of(self._signature, layers)
            runner = self._expect_open()
            places = range(len(self)) if stream is None else (self._expect_place(stream),)
            for place in places:
                state = np.array(runner.read_state(place))
                for spec in specs:
                    state_view(state, spec)[...] = state_view(self._state_init, spec)
                runner.write_state(place, state)

    def _begin(self, stream: int | None) -> None:
        runner = self._expect_open()
        if stream is None:
            runner.write_state(0, np.tile(self._state_init, len(self)))
        else:
            runner.write_state(self._expect_place(stream), self._state_init)
        if self._clocks is not None:
            self._clocks.begin(stream)

    def join(self) -> int:
        """Take a free place, with its initial state; its number.

        Raises:
            StreamError: none is free.
        """
        with self._turn:
            runner = self._expect_open()
            free = np.flatnonzero(~self._active)
            if free.size == 0:
                raise StreamError(f"all {len(self)} places are taken: open a session with more")
            place = int(free[0])
            self._begin(place)
            self._active[place] = True
            runner.set_active(self._active)
            return place

    def leave(self, stream: int) -> None:
        """Give a place back."""
        with self._turn:
            runner = self._expect_open()
            self._active[self._expect_place(stream)] = False
            self._out.reshape(len(self), -1)[stream] = 0
            runner.set_active(self._active)

    def snapshot(self, stream: int) -> Snapshot:
        """The state of one stream; it fits single sessions of the same model, too."""
        with self._turn:
            state = self._expect_open().read_state(self._expect_place(stream))
        return Snapshot(self._model_id, state.tobytes())

    def restore(self, stream: int, snapshot: Snapshot | bytes) -> None:
        """Let one stream continue where a snapshot was taken.

        Raises:
            StreamError: it is damaged, of another model, not finite, or of a stream that ended.
        """
        runner = self._expect_open()
        state = state_to_restore(snapshot, self._model_id, self._signature, self._state_init)
        if self._clocks is not None:
            self._clocks.expect_running(state)
        with self._turn:
            self._write(runner, stream, state)

    def set_state(self, stream: int, name: str, value: Any) -> None:
        """Let one stream go on from another value of one state, see `Session.set_state`.

        Raises:
            StreamError: no such state, or a value that does not fit it; the state is as before.
        """
        spec, data, _ = convert_state(self._signature, name, value)
        with self._turn:
            runner = self._expect_open()
            state = np.array(runner.read_state(self._expect_place(stream)))
            state_view(state, spec)[...] = data
            self._write(runner, stream, state)

    def _write(self, runner: Runner, stream: int, state: Block) -> None:
        runner.write_state(self._expect_place(stream), state)
        if self._clocks is not None:
            self._clocks.follow(stream, state)

    def close(self) -> None:
        """Give the memory back; the set cannot be used afterwards."""
        with self._turn:
            if self._runner is not None:
                self._runner.close()
            self._runner = None

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        refuse_copy("a StreamSet", "snapshot(stream)")

    def __enter__(self) -> StreamSet:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        facts = " ".join(self._kernel.facts.values())
        return f"<edgelstm.StreamSet {self._signature.name} of {len(self)} on {facts}>"

    def _expect_place(self, stream: int) -> int:
        if not 0 <= stream < len(self):
            raise StreamError(f"there is no stream {stream}: they are 0 to {len(self) - 1}")
        return stream

    def _expect_open(self) -> Runner:
        if self._runner is None:
            self._refuse_closed()
        return self._runner

    def _refuse_closed(self) -> NoReturn:
        raise StreamError(f"the streams of {self._signature.name!r} are closed")


@contextmanager
def _only(runner: Runner, chosen: NDArray[np.bool_], active: NDArray[np.bool_]) -> Iterator[None]:
    """Move on some of the active streams only."""
    if np.array_equal(chosen, active):
        yield
        return
    runner.set_active(chosen)
    try:
        yield
    finally:
        runner.set_active(active)
