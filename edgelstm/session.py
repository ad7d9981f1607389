"""A running model: one session is one stream, with its own state and buffers."""

from __future__ import annotations

from types import TracebackType
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from edgelstm.engines.base import Blocks, Kernel, NeedsGuards, StateKeeper
from edgelstm.errors import InternalError, NonFiniteStateError, StreamError
from edgelstm.memory import allocate_block
from edgelstm.pace import Pace
from edgelstm.samples import (
    by_name,
    convert_blocks,
    convert_sample,
    refusal_error,
)
from edgelstm.signature import Signature, TensorSpec
from edgelstm.snapshot import Snapshot
from edgelstm.turn import Turn, refuse_copy

Array = NDArray[Any]
Result = Any
"""An array where the model has one output, else a dict of arrays by name."""


class Session:
    """One stream through a model; made by `Artifact.session()`.

    It owns every buffer it writes, so that any number of sessions run side by side, each in a
    thread of its own if you like; one session belongs to one thread at a time, and refuses a second
    one with a BusyError. Whatever is refused leaves the state as it was.

    Args:
        kernel: the model made ready to run; shared.
        signature: what goes in and out.
        state_init: the state block before the first step.
        scratch_bytes: size of the working memory.
        model_id: tells models apart in snapshots.
    """

    __slots__ = (
        "_blocks",
        "_frame_dtype",
        "_frame_shape",
        "_input",
        "_inputs",
        "_kernel",
        "_model_id",
        "_outputs",
        "_pace",
        "_places",
        "_result",
        "_settle",
        "_signature",
        "_state_init",
        "_step",
        "_turn",
    )

    def __init__(
        self,
        kernel: Kernel,
        signature: Signature,
        state_init: bytes | memoryview,
        scratch_bytes: int,
        model_id: str,
    ) -> None:
        self._kernel = kernel
        self._signature = signature
        self._state_init = np.frombuffer(state_init, np.uint8)
        self._model_id = model_id
        self._turn = Turn(f"the session of {signature.name!r}")
        is_guarded = isinstance(kernel, NeedsGuards) and kernel.needs_guards
        self._blocks = Blocks(
            state=allocate_block(len(state_init), is_guarded=is_guarded),
            scratch=allocate_block(scratch_bytes, is_guarded=is_guarded),
            inputs=allocate_block(signature.input_bytes),
            outputs=allocate_block(signature.output_bytes),
        )
        self._pace = Pace()
        self._inputs = [_view(self._blocks.inputs, spec) for spec in signature.inputs]
        self._places = list(zip(signature.inputs, self._inputs, strict=True))
        self._outputs = [_view(self._blocks.outputs, spec) for spec in signature.outputs]
        self._result = self._as_result(self._outputs)
        # One streamed input takes the short way through `step`; no array passes its check else.
        is_simple = signature.mode == "stream" and len(self._inputs) == 1
        self._input = self._inputs[0] if is_simple else np.empty(0)
        self._frame_shape = self._input.shape if is_simple else None
        self._frame_dtype = self._input.dtype if is_simple else None
        self._step = kernel.bind(self._blocks)
        keeper: object = self._step
        self._settle = keeper.settle if isinstance(keeper, StateKeeper) else _state_is_here
        self.reset()

    @property
    def signature(self) -> Signature:
        """What goes in and out."""
        return self._signature

    @property
    def kernel(self) -> Kernel:
        """The model as the engine runs it; its `facts` name engine and instruction set."""
        return self._kernel

    def step(self, frame: Any) -> Result:
        """Feed one frame, and get what the model says after it.

        Args:
            frame: an array of exactly the input's shape and type (any strides), Python numbers
                in that shape, or, where the model has several inputs, a dict of them by name.

        Returns:
            The output as a view that the next step overwrites (copy it to keep it); with several
            outputs a dict of such views, always the same one.

        Raises:
            StreamError: the frame does not fit, or the state after it would not be finite; the
                state is as before.
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
            code = self._step()
            if code:
                self._refuse(code, self._inputs)
            return self._result
        finally:
            turn.give(None)

    def run(self, frames: Any) -> Result:
        """Feed a block of frames in native code; the same as `step` for each of them.

        A signal is answered within a fraction of a second, and then none of the block was fed.

        Args:
            frames: `(n, *frame)`, or a dict of such blocks by name.

        Returns:
            Fresh arrays `(n, *output)`, one or a dict by name.

        Raises:
            StreamError: a frame does not fit; none of the block was fed.
            NonFiniteStateError: a state would not be finite after one of the frames; those before
                it were fed: the error holds their number and outputs.
        """
        with self._turn:
            return self._run(frames)

    def _run(self, frames: Any) -> Result:
        self._expect_mode("stream", "run() feeds a stream")
        signature = self._signature
        blocks = convert_blocks(frames, signature.inputs)
        n_steps = len(blocks[0]) if blocks else 0
        inputs = _pack(blocks, signature.inputs, signature.input_bytes)
        results, outputs = _make_room(n_steps, signature.outputs, signature.output_bytes)
        if n_steps:
            self._settle()
            if n_steps > _MOST_STEPS:
                raise StreamError(f"a block of {n_steps} frames: run takes {_MOST_STEPS} at most")
            code = self._run_stretches(inputs, outputs, n_steps)
            if code < 0:
                done = [np.ascontiguousarray(result[: -1 - code]) for result in results]
                raise self._overflow(-1 - code, self._as_result(done))
            if code:
                self._refuse(code, blocks, is_block=True)
        # Views of frames that also hold other outputs would keep all of those alive.
        return self._as_result([np.ascontiguousarray(result) for result in results])

    def _run_stretches(self, inputs: Array, outputs: Array, n_steps: int) -> int:
        """Native calls that a signal can come between; unless all are done, none was."""
        if n_steps <= self._pace.steps:
            return self._kernel.bind_run(self._blocks, inputs, outputs, n_steps)()
        state = self._blocks.state
        before = state.copy()
        try:
            for part in self._pace.stretches(n_steps):
                steps = part.stop - part.start
                run = self._kernel.bind_run(self._blocks, inputs[part], outputs[part], steps)
                code = run()
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

    def call(self, inputs: Any) -> Result:
        """Compute the whole function once (artifacts compiled with `--mode call`).

        Args:
            inputs: a dict of arrays by name; one input may come alone.

        Returns:
            Fresh arrays, one or a dict by name.

        Raises:
            StreamError: an input does not fit.
        """
        with self._turn:
            self._expect_mode("call", "call() computes whole sequences")
            self._fill(inputs)
            code = self._step()
            if code:
                self._refuse(code, self._inputs)
            return self._as_result([output.copy() for output in self._outputs])

    def reset(self) -> None:
        """Begin a new stream: every state gets its initial value."""
        with self._turn:
            self._expect_open()
            self._settle(False)
            self._blocks.state[...] = self._state_init

    def snapshot(self) -> Snapshot:
        """The state as a value; `bytes()` of it can be stored."""
        with self._turn:
            self._expect_open()
            self._settle()
            return Snapshot(self._model_id, self._blocks.state.tobytes())

    def restore(self, snapshot: Snapshot | bytes | bytearray | memoryview) -> None:
        """Continue where a snapshot was taken.

        Raises:
            StreamError: it is damaged, or of another model; the state is as before.
        """
        with self._turn:
            self._restore(snapshot)

    def _restore(self, snapshot: Snapshot | bytes | bytearray | memoryview) -> None:
        self._expect_open()
        if not isinstance(snapshot, Snapshot):
            snapshot = Snapshot.from_bytes(snapshot)
        state = self._blocks.state
        if snapshot.model_id != self._model_id:
            raise StreamError(
                f"the snapshot is of another model than {self._signature.name!r} "
                f"({snapshot.model_id[:12]}... instead of {self._model_id[:12]}...)"
            )
        if len(snapshot.state) != state.size:
            raise StreamError(
                f"the snapshot holds {len(snapshot.state)} bytes, the state has {state.size}"
            )
        self._settle(False)
        state[...] = np.frombuffer(snapshot.state, np.uint8)

    def close(self) -> None:
        """End the session; it cannot be used afterwards. Results it returned stay readable."""
        with self._turn:
            self._settle(False)
            self._frame_dtype = None
            # No method of its own: a session that refers to itself outlives its last user.
            self._step, self._settle = _Closed(self._signature.name), _state_is_here

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        refuse_copy("a Session", "session.snapshot()")

    def __enter__(self) -> Session:
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
        return f"<edgelstm.Session {self._signature.name} {self._signature.mode} on {facts}>"

    def _take_frame(self, frame: Any) -> None:
        self._expect_mode("stream", "step() feeds a stream")
        self._fill(frame)

    def _fill(self, data: Any) -> None:
        """Copy inputs into the block; what a refused sample leaves there is never looked at."""
        if type(data) is dict and len(data) == len(self._inputs):
            # The short way for several inputs that fit exactly; all else is looked at more closely.
            for spec, place in self._places:
                array = data.get(spec.name)
                if (
                    type(array) is not np.ndarray
                    or array.dtype is not place.dtype
                    or array.shape != place.shape
                ):
                    break
                place[...] = array
            else:
                return
        specs = self._signature.inputs
        items = by_name(data, specs)
        arrays = [convert_sample(item, spec) for item, spec in zip(items, specs, strict=True)]
        for place, array in zip(self._inputs, arrays, strict=True):
            place[...] = array

    def _as_result(self, arrays: list[Array]) -> Result:
        if len(arrays) == 1:
            return arrays[0]
        names = (spec.name for spec in self._signature.outputs)
        return dict(zip(names, arrays, strict=True))

    def _expect_mode(self, mode: str, what: str) -> None:
        self._expect_open()
        if self._signature.mode != mode:
            use = "call(inputs)" if self._signature.mode == "call" else "step(frame) or run(frames)"
            raise StreamError(
                f"{what}, and {self._signature.name!r} was compiled with --mode "
                f"{self._signature.mode}: use {use}, or compile it with --mode {mode}"
            )

    def _expect_open(self) -> None:
        if isinstance(self._step, _Closed):
            self._step()

    def _overflow(self, done: int, outputs: Result) -> NonFiniteStateError:
        where = "" if outputs is None else f" {done} of the block"
        kept = "it was" if outputs is None else f"after the {done} frames before it"
        limit = self._signature.state_limit
        bound = (
            f"beyond {limit:.4g}, infinite or NaN" if limit < float("inf") else "infinite or NaN"
        )
        return NonFiniteStateError(
            f"after frame{where} a state of {self._signature.name!r} would be {bound}, and with it "
            f"what follows: the frame is refused and the state is as {kept}; "
            "skip such frames, reset() the stream, or bound the model (clip of the cell, tanh "
            "instead of relu)",
            done,
            outputs,
        )

    def _refuse(self, code: int, arrays: list[Array], is_block: bool = False) -> NoReturn:
        specs = self._signature.inputs
        if code == -1 and not is_block:
            raise self._overflow(0, None)
        if not 1 <= code <= len(specs):
            raise InternalError(f"the step of {self._signature.name!r} returned {code}")
        raise refusal_error(arrays[code - 1], specs[code - 1], is_block)


_MOST_STEPS = 2**31 - 2
"""Frames of a run: how many are done comes back in 32 bits."""


class _Closed:
    """The step of a closed session."""

    __slots__ = ("_name",)

    def __init__(self, name: str) -> None:
        self._name = name

    def __call__(self) -> NoReturn:
        raise StreamError(
            f"the session of {self._name!r} is closed: make a new one with artifact.session()"
        )


def _state_is_here(fetch: bool = True) -> None:
    """The state always stands in its block."""


def _view(block: Array, spec: TensorSpec, n_steps: int | None = None) -> Array:
    """A tensor in a block: of one step, or of n contiguous steps."""
    if n_steps is None:
        return np.ndarray(spec.shape, spec.dtype.numpy, block, spec.offset_bytes)
    strides = [spec.dtype.itemsize]
    for extent in reversed(spec.shape):
        strides.insert(0, strides[0] * extent)
    strides = [block.strides[0], *strides[1:]]
    shape = (n_steps, *spec.shape)
    return np.ndarray(shape, spec.dtype.numpy, block, spec.offset_bytes, strides)


def _is_dense(specs: tuple[TensorSpec, ...], size_bytes: int) -> bool:
    """Whether frames of the only tensor follow each other without gaps."""
    return len(specs) == 1 and specs[0].offset_bytes == 0 and specs[0].nbytes == size_bytes


def _pack(blocks: list[Array], specs: tuple[TensorSpec, ...], size_bytes: int) -> Array:
    """Frames of all inputs side by side, as the native code wants them."""
    if _is_dense(specs, size_bytes):
        return np.ascontiguousarray(blocks[0])
    n_steps = len(blocks[0]) if blocks else 0
    packed = np.zeros((n_steps, size_bytes), np.uint8)
    if n_steps:
        for block, spec in zip(blocks, specs, strict=True):
            _view(packed, spec, n_steps)[...] = block
    return packed


def _make_room(
    n_steps: int, specs: tuple[TensorSpec, ...], size_bytes: int
) -> tuple[list[Array], Array]:
    """Where the outputs of n steps appear, and the block of memory that they stand in."""
    if _is_dense(specs, size_bytes) or n_steps == 0:
        results = [np.empty((n_steps, *spec.shape), spec.dtype.numpy) for spec in specs]
        return results, results[0] if results else np.empty((0, size_bytes), np.uint8)
    room = np.empty((n_steps, size_bytes), np.uint8)
    return [_view(room, spec, n_steps) for spec in specs], room
