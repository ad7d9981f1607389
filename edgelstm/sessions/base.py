"""What every running model has, and what a mode of running is; each mode stands in a file beside.

A mode is an object: how its sessions are fed, what they are called in reports, who runs it over a
recording. Whoever needs to know asks the object (`mode_of`), and nobody compares names.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from edgelstm.engines.base import (
    Blocks,
    CountsSaturation,
    Kernel,
    NeedsGuards,
    StateKeeper,
    all_outputs,
    code_of,
    tells_news,
)
from edgelstm.errors import InternalError, NonFiniteStateError, StreamError
from edgelstm.memory import allocate_block
from edgelstm.samples import Frame, Result, by_name, convert_sample, refusal_error
from edgelstm.signature import Signature, TensorSpec
from edgelstm.snapshot import Snapshot, state_to_restore, state_view
from edgelstm.state_access import convert_state, read_state, states_of
from edgelstm.turn import Turn, refuse_copy

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class SessionStats:
    """What a session had to bring into the range of integers, since it was made.

    Args:
        saturated_inputs: for each input that is quantized (also a first state that is one) how many
            values lay beyond its range; None where nobody counts: engines and artifacts of older
            versions, models that quantize no input to integers, schemes that do it within a layer.
        saturated_states: for each state that `set_state` was given beyond its range, how many
            values of it.
    """

    saturated_inputs: Mapping[str, int] | None
    saturated_states: Mapping[str, int]


_METHODS = {
    "step": ("step() feeds a stream", "stream"),
    "run": ("run() feeds a stream", "stream"),
    "call": ("call() computes whole sequences", "call"),
}
"""What a method does, and the mode to compile for where another mode has no such method."""


@dataclass(frozen=True, slots=True)
class SessionMode:
    """A way of running a model.

    Args:
        name: as in `--mode NAME` and in the signature.
        session: the class of its sessions.
        chunked: the same where a step takes several frames, see `Signature.chunk`; None: they are
            no other.
        unit: what one turn is called in reports.
        units: what recordings are counted in.
        consumes: what one turn takes, in the C header.
        entry: method of the session that computes one turn.
        use: its methods, as an error suggests them.
        has_blocks: its sessions have `run`, for blocks of turns.
        takes_many: many streams may be stepped together, on engines that can.
        runner: `module:class` of what `edgelstm run` does with a recording.
        refused_options: of `edgelstm run`, because they mean nothing here; with why.
        why_refused: in words, for those.
        columns: about the outputs, written beside them.
        described_size: of an input or output of this shape, how many elements have names of their
            own (columns, labels).
    """

    name: str
    session: type[Session]
    unit: str
    units: str
    consumes: str
    entry: str
    use: str
    has_blocks: bool
    takes_many: bool
    runner: str
    described_size: Callable[[tuple[int, ...]], int]
    refused_options: tuple[str, ...] = ()
    why_refused: str = ""
    columns: tuple[str, ...] = ()
    chunked: type[Session] | None = None

    def session_of(self, signature: Signature) -> type[Session]:
        """The class of the sessions of a model."""
        return self.session if signature.chunk == 1 or self.chunked is None else self.chunked


class Session(ABC):
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

    _use = ""
    """The methods that its mode has, as an error suggests them."""

    __slots__ = (
        "_blocks",
        "_fine",
        "_inputs",
        "_kernel",
        "_model_id",
        "_outputs",
        "_places",
        "_result",
        "_saturated",
        "_settle",
        "_signature",
        "_state_init",
        "_step",
        "_tells_news",
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
        self._inputs = [view(self._blocks.inputs, spec) for spec in signature.inputs]
        self._places = list(zip(signature.inputs, self._inputs, strict=True))
        self._outputs = [view(self._blocks.outputs, spec) for spec in signature.outputs]
        self._result = self._as_result(self._outputs)
        self._step = kernel.bind(self._blocks)
        self._tells_news = tells_news(kernel)
        self._fine = all_outputs(signature) if self._tells_news else 0
        keeper: object = self._step
        self._settle = keeper.settle if isinstance(keeper, StateKeeper) else _state_is_here
        self._saturated: dict[str, int] = {}
        self._prepare()
        self.reset()

    @abstractmethod
    def _prepare(self) -> None:
        """What a mode keeps beside the rest, before the first reset."""

    @property
    def signature(self) -> Signature:
        """What goes in and out."""
        return self._signature

    @property
    def kernel(self) -> Kernel:
        """The model as the engine runs it; its `facts` name engine and instruction set."""
        return self._kernel

    def step(self, frame: Frame) -> Result:
        """Feed one frame, and get what the model says after it (artifacts that are streams).

        Raises:
            StreamError: the artifact was compiled for another mode.
        """
        with self._turn:
            self._refuse_method("step")

    def run(self, frames: Frame) -> Result:
        """Feed a block of frames; the same as `step` for each of them.

        Raises:
            StreamError: the artifact was compiled for another mode.
        """
        with self._turn:
            self._refuse_method("run")

    def call(self, inputs: Frame) -> Result:
        """Compute the whole function once (artifacts compiled with `--mode call`).

        Raises:
            StreamError: the artifact was compiled for another mode.
        """
        with self._turn:
            self._refuse_method("call")

    def finish(self) -> Result:
        """Tell that the recording is over, and get what still comes; nothing, but of streams."""
        with self._turn:
            self._expect_open()
            empty = [np.empty((0, *x.shape), x.dtype) for x in self._outputs]
            return self._as_result(empty)

    @abstractmethod
    def advance(self, values: Mapping[str, Any]) -> Result:
        """One turn of the code, whatever mode this is: a step of one frame, or a call.

        Args:
            values: an array for each input, by name.
        """

    @abstractmethod
    def advance_all(self, blocks: Mapping[str, Any]) -> Result:
        """Turn after turn of whatever mode this is.

        Args:
            blocks: for each input by name `(n, *shape)`.

        Returns:
            Fresh arrays `(n, *output)`, one or a dict by name.
        """

    def mark(self, bad: NDArray[np.int64]) -> None:
        """Say of the frames of the next `run` how many bad samples each stands for.

        Modes whose answers stand for several frames tell it with them; the others need not.

        Shapes:
            bad `(n,)`.
        """
        del bad

    def answered(self, count: int) -> NDArray[np.int64] | None:
        """Which of the frames of the last `run` its outputs belong to; None: one to each.

        Args:
            count: how many frames were fed.
        """
        del count
        return None

    def about_answers(self) -> dict[str, list[int]]:
        """Columns about the outputs of the last `run`; their names are `SessionMode.columns`."""
        return {}

    def reset(self, layers: Iterable[str] | None = None) -> None:
        """Begin a new stream: every state gets its initial value.

        Args:
            layers: only those of these layers, see `states_of`; the stream goes on with its frame
                numbers, and all else that it carries. None: everything.

        Raises:
            StreamError: there is no such layer, or it has no state; all is as before.
        """
        with self._turn:
            self._expect_open()
            if layers is None:
                self._settle(False)
                self._blocks.state[...] = self._state_init
                return
            specs = states_of(self._signature, layers)
            self._settle()
            for spec in specs:
                state_view(self._blocks.state, spec)[...] = state_view(self._state_init, spec)

    def snapshot(self) -> Snapshot:
        """The state as a value; `bytes()` of it can be stored."""
        with self._turn:
            self._expect_open()
            self._settle()
            return Snapshot(self._model_id, self._blocks.state.tobytes())

    def restore(self, snapshot: Snapshot | bytes | bytearray | memoryview) -> None:
        """Continue where a snapshot was taken.

        Raises:
            StreamError: it is damaged, of another model, or not finite; the state is as before.
        """
        with self._turn:
            self._restore(snapshot)

    def _restore(self, snapshot: Snapshot | bytes | bytearray | memoryview) -> None:
        self._expect_open()
        state = state_to_restore(snapshot, self._model_id, self._signature, self._state_init)
        self._settle(False)
        self._blocks.state[...] = state

    def set_state(self, name: str, value: Any) -> None:
        """Let the stream go on from another value of one state.

        Args:
            name: of the state, see `signature.states`; of a model with states as inputs that of
                the input.
            value: in the state's shape, but for extents of one; a single number fills it. Of a
                model in integers floats are in the model's own units: what lies beyond the range
                of the state stands at its end, and is counted (`stats`).

        Raises:
            StreamError: no such state, or a value that does not fit it; the state is as before.
        """
        with self._turn:
            self._expect_open()
            spec, data, saturated = convert_state(self._signature, name, value)
            self._settle()
            state_view(self._blocks.state, spec)[...] = data
            if saturated:
                self._saturated[name] = self._saturated.get(name, 0) + saturated

    def get_state(self, name: str) -> Array:
        """A copy of one state as it is now.

        Raises:
            StreamError: no such state.
        """
        with self._turn:
            self._expect_open()
            self._settle()
            return read_state(self._blocks.state, self._signature, name)

    @property
    def stats(self) -> SessionStats:
        """What has been saturated since the session was made."""
        with self._turn:
            self._expect_open()
            kernel: object = self._kernel
            inputs = (
                kernel.saturated(self._blocks) if isinstance(kernel, CountsSaturation) else None
            )
            return SessionStats(inputs, dict(self._saturated))

    def close(self) -> None:
        """End the session; it cannot be used afterwards. Results it returned stay readable."""
        with self._turn:
            self._close()

    def _close(self) -> None:
        self._settle(False)
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

    def _refuse_method(self, name: str) -> NoReturn:
        self._expect_open()
        what, mode = _METHODS[name]
        raise StreamError(
            f"{what}, and {self._signature.name!r} was compiled with --mode "
            f"{self._signature.mode}: use {self._use}, or compile it with --mode {mode}"
        )

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

    def _as_result(self, arrays: Sequence[Array | None]) -> Result:
        if len(arrays) == 1:
            return arrays[0]
        names = (spec.name for spec in self._signature.outputs)
        return dict(zip(names, arrays, strict=True))

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

    def _code(self, returned: int) -> int:
        """What a step or run returned, as engines say it."""
        return code_of(returned) if self._tells_news else returned

    def _refuse(self, code: int, arrays: list[Array], is_block: bool = False) -> NoReturn:
        specs = self._signature.inputs
        if code == -1 and not is_block:
            raise self._overflow(0, None)
        if not 1 <= code <= len(specs):
            raise InternalError(f"the step of {self._signature.name!r} returned {code}")
        raise refusal_error(arrays[code - 1], specs[code - 1], is_block)


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


def view(block: Array, spec: TensorSpec, n_steps: int | None = None) -> Array:
    """A tensor in a block: of one step, or of n contiguous steps."""
    if n_steps is None:
        return np.ndarray(spec.shape, spec.dtype.numpy, block, spec.offset_bytes)
    strides = [spec.dtype.itemsize]
    for extent in reversed(spec.shape):
        strides.insert(0, strides[0] * extent)
    strides = [block.strides[0], *strides[1:]]
    shape = (n_steps, *spec.shape)
    return np.ndarray(shape, spec.dtype.numpy, block, spec.offset_bytes, strides)
