"""A running model: one session is one stream, with its own state and buffers."""

from __future__ import annotations

from types import TracebackType
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from edgelstm.engines.base import Blocks, Kernel, StateKeeper
from edgelstm.errors import InternalError, StreamError
from edgelstm.memory import allocate_block
from edgelstm.samples import (
    by_name,
    convert_blocks,
    convert_sample,
    non_finite_error,
)
from edgelstm.signature import Signature, TensorSpec
from edgelstm.snapshot import Snapshot, state_to_restore

Array = NDArray[Any]
Result = Any
"""An array where the model has one output, else a dict of arrays by name."""


class Session:
    """One stream through a model; made by `Artifact.session()`.

    It owns every buffer it writes, so that any number of sessions run side by side, each in a
    thread of its own if you like; one session belongs to one thread at a time. Whatever is refused
    leaves the state as it was.

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
        "_places",
        "_result",
        "_settle",
        "_signature",
        "_state_init",
        "_step",
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
        self._blocks = Blocks(
            state=allocate_block(len(state_init)),
            scratch=allocate_block(scratch_bytes),
            inputs=allocate_block(signature.input_bytes),
            outputs=allocate_block(signature.output_bytes),
        )
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
            StreamError: the frame does not fit; the state is as before.
        """
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

    def run(self, frames: Any) -> Result:
        """Feed a block of frames in one native call; the same as `step` for each of them.

        Args:
            frames: `(n, *frame)`, or a dict of such blocks by name.

        Returns:
            Fresh arrays `(n, *output)`, one or a dict by name.

        Raises:
            StreamError: a frame does not fit; none of the block was fed.
        """
        self._expect_mode("stream", "run() feeds a stream")
        signature = self._signature
        blocks = convert_blocks(frames, signature.inputs)
        n_steps = len(blocks[0]) if blocks else 0
        inputs = _pack(blocks, signature.inputs, signature.input_bytes)
        results, outputs = _make_room(n_steps, signature.outputs, signature.output_bytes)
        if n_steps:
            self._settle()
            code = self._kernel.bind_run(self._blocks, inputs, outputs, n_steps)()
            if code:
                self._refuse(code, blocks, is_block=True)
        # Views of frames that also hold other outputs would keep all of those alive.
        return self._as_result([np.ascontiguousarray(result) for result in results])

    def call(self, inputs: Any) -> Result:
        """Compute the whole function once (artifacts compiled with `--mode call`).

        Args:
            inputs: a dict of arrays by name; one input may come alone.

        Returns:
            Fresh arrays, one or a dict by name.

        Raises:
            StreamError: an input does not fit.
        """
        self._expect_mode("call", "call() computes whole sequences")
        self._fill(inputs)
        code = self._step()
        if code:
            self._refuse(code, self._inputs)
        return self._as_result([output.copy() for output in self._outputs])

    def reset(self) -> None:
        """Begin a new stream: every state gets its initial value."""
        self._expect_open()
        self._settle(False)
        self._blocks.state[...] = self._state_init

    def snapshot(self) -> Snapshot:
        """The state as a value; `bytes()` of it can be stored."""
        self._expect_open()
        self._settle()
        return Snapshot(self._model_id, self._blocks.state.tobytes())

    def restore(self, snapshot: Snapshot | bytes | bytearray | memoryview) -> None:
        """Continue where a snapshot was taken.

        Raises:
            StreamError: it is damaged, of another model, or not finite; the state is as before.
        """
        self._expect_open()
        state = state_to_restore(snapshot, self._model_id, self._signature, self._state_init)
        self._settle(False)
        self._blocks.state[...] = state

    def close(self) -> None:
        """End the session; it cannot be used afterwards. Results it returned stay readable."""
        self._settle(False)
        self._frame_dtype = None
        self._step, self._settle = self._refuse_closed, _state_is_here

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
        if self._step == self._refuse_closed:
            self._refuse_closed()

    def _refuse_closed(self) -> NoReturn:
        raise StreamError(
            f"the session of {self._signature.name!r} is closed: make a new one with "
            "artifact.session()"
        )

    def _refuse(self, code: int, arrays: list[Array], is_block: bool = False) -> NoReturn:
        specs = self._signature.inputs
        if not 1 <= code <= len(specs):
            raise InternalError(f"the step of {self._signature.name!r} returned {code}")
        raise non_finite_error(arrays[code - 1], specs[code - 1], is_block)


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
