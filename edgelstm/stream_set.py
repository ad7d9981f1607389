"""Many streams through one model, stepped together on an accelerator; each with its own state."""

from __future__ import annotations

from types import TracebackType
from typing import Any, NoReturn, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from edgelstm.admission import refused, takes
from edgelstm.engines.base import Kernel
from edgelstm.errors import CapabilityError, SampleShapeError, StreamError
from edgelstm.memory import Block
from edgelstm.samples import Frame, Result, refusal_reason
from edgelstm.sessions import mode_of
from edgelstm.signature import Signature, TensorSpec
from edgelstm.snapshot import Snapshot, state_to_restore, state_view
from edgelstm.state_access import convert_state
from edgelstm.turn import Turn, refuse_copy

Array = NDArray[Any]


class Runner(Protocol):
    """Device memory for the streams, and what moves them on."""

    def run(self, inputs: Block, outputs: Block, n_frames: int) -> None:
        """Feed frames `[frame][stream][input block]`; outputs come in the same order."""
        ...

    def write_state(self, stream: int, state: Block) -> None:
        """Set the state block of one stream, or of several from that one on."""
        ...

    def read_state(self, stream: int) -> Block:
        """The state block of one stream."""
        ...

    def set_active(self, active: NDArray[np.bool_]) -> None:
        """Which streams are moved on."""
        ...


@runtime_checkable
class ManyStreams(Protocol):
    """A kernel that steps many streams at once."""

    def bind_streams(self, streams: int, state_bytes: int, *, check_states: bool) -> Runner:
        """Memory for that many streams."""
        ...


class StreamSet:
    """Places for streams, numbered from 0; made by `Artifact.session(streams=N)`.

    All places are taken at first. A stream that leaves is not moved on, its rows of the outputs are
    zeros, and its place can be taken again. Whatever is refused leaves every state as it was.

    Args:
        kernel: the model made ready to run; shared.
        signature: what goes in and out.
        state_init: the state block before the first step.
        streams: how many places.
        model_id: tells models apart in snapshots.
        check_states: False where states that become infinite or NaN are accepted.

    Raises:
        CapabilityError: this engine has one stream a session, or no such check where the model
            needs it.
        StreamError: fewer than one place, or a model compiled with `--mode call`.
    """

    def __init__(
        self,
        kernel: Kernel,
        signature: Signature,
        state_init: bytes | memoryview,
        streams: int,
        model_id: str,
        *,
        check_states: bool = True,
    ) -> None:
        if not isinstance(kernel, ManyStreams):
            engine = kernel.facts.get("engine", "this engine")
            raise CapabilityError(
                f"engine {engine} has one stream a session: open {streams} sessions, or compile "
                "the model for a GPU"
            )
        if streams < 1 or not mode_of(signature.mode).takes_many:
            raise StreamError(f"{streams} streams of a {signature.mode} model")
        self._kernel: Kernel = kernel
        self._signature = signature
        self._state_init = np.frombuffer(state_init, np.uint8)
        self._model_id = model_id
        self._turn = Turn(f"the streams of {signature.name!r}")
        self._active = np.ones(streams, np.bool_)
        self._runner: Runner | None = kernel.bind_streams(
            streams, len(state_init), check_states=check_states
        )
        self.reset()

    def __len__(self) -> int:
        return len(self._active)

    @property
    def signature(self) -> Signature:
        """What goes in and out."""
        return self._signature

    @property
    def active(self) -> NDArray[np.bool_]:
        """Which places are taken."""
        return self._active.copy()

    def step(self, frames: Frame) -> Result:
        """Feed one frame of every stream.

        Args:
            frames: `(streams, *frame)`, or a dict of such arrays by name.

        Returns:
            `(streams, *output)`, one array or a dict by name.

        Raises:
            StreamError: a frame does not fit; no stream was fed.
        """
        given = frames if isinstance(frames, dict) else {self._signature.inputs[0].name: frames}
        with self._turn:
            result = self._advance({name: np.asarray(data)[None] for name, data in given.items()})
        if isinstance(result, dict):
            return {name: data[0] for name, data in result.items()}
        return result[0]

    def run(self, frames: Frame) -> Result:
        """Feed a block of frames; the same as `step` for each of them.

        Args:
            frames: `(n, streams, *frame)`, or a dict of such blocks by name.

        Returns:
            `(n, streams, *output)`, one array or a dict by name.

        Raises:
            StreamError: a frame does not fit; no stream was fed.
        """
        with self._turn:
            return self._advance(frames)

    def _advance(self, frames: Any) -> Result:
        runner = self._expect_open()
        packed = self._pack(frames)
        count = packed.shape[0]
        outputs = np.zeros((count, len(self), self._signature.output_bytes), np.uint8)
        if count:
            runner.run(packed.reshape(-1), outputs.reshape(-1), count)
        arrays = {spec.name: _column(outputs, spec) for spec in self._signature.outputs}
        return arrays if len(arrays) > 1 else next(iter(arrays.values()))

    def reset(self, stream: int | None = None) -> None:
        """Begin a new stream at one place, or at all of them."""
        with self._turn:
            self._begin(stream)

    def _begin(self, stream: int | None) -> None:
        runner = self._expect_open()
        if stream is None:
            runner.write_state(0, np.tile(self._state_init, len(self)))
        else:
            runner.write_state(self._expect_place(stream), self._state_init)

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
            runner.set_active(self._active)

    def snapshot(self, stream: int) -> Snapshot:
        """The state of one stream; it fits single sessions of the same model, too."""
        with self._turn:
            state = self._expect_open().read_state(self._expect_place(stream))
        return Snapshot(self._model_id, state.tobytes())

    def restore(self, stream: int, snapshot: Snapshot | bytes) -> None:
        """Let one stream continue where a snapshot was taken.

        Raises:
            StreamError: it is damaged, of another model, or not finite.
        """
        runner = self._expect_open()
        state = state_to_restore(snapshot, self._model_id, self._signature, self._state_init)
        with self._turn:
            runner.write_state(self._expect_place(stream), state)

    def set_state(self, stream: int, name: str, value: Any) -> None:
        """Let one stream go on from another value of one state, see `Session.set_state`.

        Raises:
            StreamError: no such state, or a value that does not fit it; the state is as before.
        """
        spec, data = convert_state(self._signature, name, value)
        with self._turn:
            runner = self._expect_open()
            state = np.array(runner.read_state(self._expect_place(stream)))
            state_view(state, spec)[...] = data
            runner.write_state(stream, state)

    def close(self) -> None:
        """Give the memory back; the set cannot be used afterwards."""
        with self._turn:
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

    def _pack(self, frames: Any) -> Array:
        """Frames of all inputs side by side: (n, streams, input_bytes)."""
        specs = self._signature.inputs
        given = frames if isinstance(frames, dict) else {specs[0].name: frames}
        if set(given) != {spec.name for spec in specs}:
            names = ", ".join(spec.name for spec in specs)
            raise SampleShapeError(f"expected the inputs {names}, found {', '.join(given)}")
        blocks = {spec.name: np.asarray(given[spec.name]) for spec in specs}
        count = len(blocks[specs[0].name])
        packed = np.zeros((count, len(self), self._signature.input_bytes), np.uint8)
        for spec in specs:
            block, wanted = blocks[spec.name], (count, len(self), *spec.shape)
            if block.shape != wanted:
                raise SampleShapeError(
                    f"input {spec.name!r} has shape {block.shape}, expected {wanted}: frames, "
                    "streams, and the frame"
                )
            values = np.ascontiguousarray(block, spec.dtype.numpy)
            self._expect_taken(values, spec)
            end = spec.offset_bytes + spec.nbytes
            packed[..., spec.offset_bytes : end] = values.reshape(count, len(self), -1).view(
                np.uint8
            )
        return packed

    def _expect_taken(self, values: Array, spec: TensorSpec) -> None:
        if takes(values, spec):
            return
        bad = refused(values, spec).reshape(*values.shape[:2], -1)
        rows = bad.any(axis=2) & self._active
        if rows.any():
            frame, stream = (int(each[0]) for each in np.nonzero(rows))
            place = np.unravel_index(int(bad[frame, stream].argmax()), spec.shape)
            element = tuple(int(index) for index in place)
            kind, reason = refusal_reason(values[(frame, stream, *element)], spec, element)
            raise kind(
                f"input {spec.name!r} of stream {stream}, element "
                f"[{','.join(map(str, element))}] in frame {frame} of the block, {reason}; no "
                "stream was fed"
            )

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


def _column(outputs: Array, spec: TensorSpec) -> Array:
    """One output of all frames and streams."""
    end = spec.offset_bytes + spec.nbytes
    raw = np.ascontiguousarray(outputs[..., spec.offset_bytes : end])
    return raw.view(spec.dtype.numpy).reshape(*outputs.shape[:2], *spec.shape)
