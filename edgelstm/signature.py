"""What goes in and out of a compiled model: names, shapes, types, units, rate and delay."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from edgelstm.dtypes import DType
from edgelstm.fields import Fields

CLOCK = "clock.frame"
"""State (int32) that counts the steps, of models that are late, slower than their input, or go on
behind the last frame."""

END = "clock.end"
"""State (int32): frames of the recording, `NO_END` before that is known."""

NO_END = (1 << 30) + (1 << 24)

THERE = "lookahead.there"
"""State (int32, one for each stream of the batch) of the chunk of a look-ahead model: frames of the
chunk that are there; all, but at the end of a recording."""

Mode: TypeAlias = str
"""Name of a mode, see `edgelstm.sessions`."""

LARGEST_BLOCK_BYTES = 1 << 40
"""No manifest speaks of a larger block; what is allocated has a limit of its own (`memory.py`)."""

_MOST_FRAMES = 1 << 32
_MOST_CHUNK = 1 << 24
_MOST_SMOOTHED = 1 << 16

SMOOTHINGS = ("mean", "vote")
"""What may be made of the newest answers of a window model."""


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One input or output.

    In stream mode `shape` is that of one frame, features last: the model's own tensor without its
    time axis, and without its batch axis where the batch is one. In call mode it is the model's.

    Args:
        name: the name in the ONNX model.
        dtype: element type.
        shape: see above.
        offset_bytes: where the tensor stands in the input (output) block of one step.
        model_shape: the shape in the ONNX model for a chunk of one frame (stream), or `shape`
            (call).
        time_axis: which axis of `model_shape` is time; None where the tensor is not along time
            (in stream mode: an any-time output such as the last hidden state).
        unit: physical unit, where known.
        stride: input frames per frame of this output.
        delay: frames by which this output lags behind the input.
        warm_up: frames before this output is defined.
        limit: of inputs in floating point: samples of larger magnitude are refused, because values
            in the model might become infinite; infinity: any finite number is taken.
        ranges: of inputs that are used as indices or lengths (numbers in floating point after they
            are rounded towards zero): runs of elements, in order, as (elements, smallest, largest);
            empty: any value of the type.
        chunk_axis: which axis of `shape` counts frames; None where a step holds one of them.
        tail: steps behind the last frame in which this output still comes, see `Session.finish`.
        reach: frames of the input that a row of this output depends on; 0: all so far.
    """

    name: str
    dtype: DType
    shape: tuple[int, ...]
    offset_bytes: int
    model_shape: tuple[int, ...]
    time_axis: int | None = None
    unit: str = ""
    stride: int = 1
    delay: int = 0
    warm_up: int = 0
    limit: float = math.inf
    ranges: tuple[tuple[int, float, float], ...] = ()
    chunk_axis: int | None = None
    tail: int = 0
    reach: int = 0

    @property
    def nbytes(self) -> int:
        """Bytes of one frame (stream) or of the whole tensor (call)."""
        return math.prod(self.shape) * self.dtype.itemsize

    def to_json(self) -> dict[str, Any]:
        """A JSON object; `from_json` reads it back. Limits that refuse nothing are left out."""
        data: dict[str, Any] = {
            "name": self.name,
            "dtype": self.dtype.value,
            "shape": list(self.shape),
            "offset_bytes": self.offset_bytes,
            "model_shape": list(self.model_shape),
            "time_axis": self.time_axis,
            "unit": self.unit,
            "stride": self.stride,
            "delay": self.delay,
            "warm_up": self.warm_up,
        }
        if math.isfinite(self.limit):
            data["limit"] = self.limit
        if self.ranges:
            data["ranges"] = [list(run) for run in self.ranges]
        if self.chunk_axis is not None:
            data["chunk_axis"] = self.chunk_axis
        if self.tail:
            data["tail"] = self.tail
        if self.reach:
            data["reach"] = self.reach
        return data

    @classmethod
    def from_json(cls, data: Any) -> TensorSpec:
        """Read what `to_json` wrote; keys that are not known are left alone.

        Raises:
            ArtifactFormatError: a field is missing, or not of its type.
        """
        fields = data if isinstance(data, Fields) else Fields(data, "tensor")
        model_shape = fields.shape("model_shape")
        time_axis = fields.optional_count("time_axis")
        if time_axis is not None and time_axis >= len(model_shape):
            fields.refuse("time_axis", f"an axis of {model_shape}")
        shape = fields.shape("shape")
        if math.prod(shape) != math.prod(model_shape):
            fields.refuse("shape", f"as many elements as model_shape {model_shape}")
        chunk_axis = fields.optional_count("chunk_axis") if "chunk_axis" in fields.data else None
        if chunk_axis is not None and chunk_axis >= len(shape):
            fields.refuse("chunk_axis", f"an axis of {shape}")
        dtype = fields.one_of("dtype", DType)
        ranges = tuple(_run(each, dtype, fields) for each in _runs(fields))
        if ranges and sum(count for count, _, _ in ranges) != math.prod(shape):
            fields.refuse("ranges", "ranges of as many elements as the tensor has")
        return cls(
            name=fields.text("name"),
            dtype=dtype,
            shape=shape,
            offset_bytes=fields.count("offset_bytes"),
            model_shape=model_shape,
            time_axis=time_axis,
            unit=fields.text("unit", ""),
            stride=fields.integer("stride", 1, _MOST_FRAMES, 1),
            delay=fields.count("delay", 0, _MOST_FRAMES),
            warm_up=fields.count("warm_up", 0, _MOST_FRAMES),
            limit=_limit(fields, "limit"),
            ranges=ranges,
            chunk_axis=chunk_axis,
            tail=fields.count("tail", 0, _MOST_FRAMES),
            reach=fields.count("reach", 0, _MOST_FRAMES),
        )


@dataclass(frozen=True, slots=True)
class StateSpec:
    """One carried value: its place in the state block.

    Args:
        name: by which it is read and set.
        dtype, shape: of its elements.
        offset_bytes: where it begins.
        scale: what a step is worth where integers stand for numbers, as the manifest's record of
            the quantization says; no part of the signature's own document.
    """

    name: str
    dtype: DType
    shape: tuple[int, ...]
    offset_bytes: int
    scale: float | None = field(default=None, compare=False)

    @property
    def nbytes(self) -> int:
        """Bytes of the state."""
        return math.prod(self.shape) * self.dtype.itemsize

    def to_json(self) -> dict[str, Any]:
        """A JSON object; `from_json` reads it back."""
        return {
            "name": self.name,
            "dtype": self.dtype.value,
            "shape": list(self.shape),
            "offset_bytes": self.offset_bytes,
        }

    @classmethod
    def from_json(cls, data: Any) -> StateSpec:
        """Read what `to_json` wrote; keys that are not known are left alone.

        Raises:
            ArtifactFormatError: a field is missing, or not of its type.
        """
        fields = data if isinstance(data, Fields) else Fields(data, "state")
        return cls(
            fields.text("name"),
            fields.one_of("dtype", DType),
            fields.shape("shape"),
            fields.count("offset_bytes"),
        )


@dataclass(frozen=True, slots=True)
class Signature:
    """Everything a caller needs to know to step a compiled model.

    Args:
        name: C identifier; the code's symbols are `NAME_step` and `NAME_run`.
        mode: name of the mode that it was compiled for, see `edgelstm.sessions`.
        inputs: in the order of the model.
        outputs: in the order of the model.
        states: what is carried between steps; empty in call mode.
        input_bytes: size of one step's input block; frames of a block follow each other.
        output_bytes: size of one step's output block.
        rate_hz: sampling rate the model was trained for, where known.
        checks_states: every new state is checked, and kept out where it is beyond `state_limit`,
            because no limit of the inputs is known that keeps the states finite.
        state_limit: the largest magnitude of a state that is kept; infinity: any finite number.
        window: what a window model does with its frames; None in the other modes.
        most_frames: a stream ends behind so many frames, because the model has a table of no more;
            None: it never does.
        chunk: frames that a step of a stream takes, of which the code computes one at a time;
            inputs, outputs, strides and delays are those of single frames.
        lookahead: how a look-ahead model cuts its frames; None in the other modes.
    """

    name: str
    mode: Mode
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    states: tuple[StateSpec, ...]
    input_bytes: int
    output_bytes: int
    rate_hz: float | None = None
    checks_states: bool = False
    state_limit: float = math.inf
    window: WindowPlan | None = None
    most_frames: int | None = None
    chunk: int = 1
    lookahead: LookaheadPlan | None = None

    @property
    def of_kernel(self) -> Signature:
        """What the code computes: a chunk of a window or look-ahead model, a frame of a chunk."""
        plan = self.window or self.lookahead
        if plan is not None:
            return plan.kernel
        return self if self.chunk == 1 else replace(self, chunk=1)

    def to_json(self) -> dict[str, Any]:
        """A JSON object; `from_json` reads it back."""
        data = {
            "name": self.name,
            "mode": self.mode,
            "inputs": [spec.to_json() for spec in self.inputs],
            "outputs": [spec.to_json() for spec in self.outputs],
            "states": [spec.to_json() for spec in self.states],
            "input_bytes": self.input_bytes,
            "output_bytes": self.output_bytes,
            "rate_hz": self.rate_hz,
        }
        if self.checks_states:
            data["checks_states"] = True
            if math.isfinite(self.state_limit):
                data["state_limit"] = self.state_limit
        if self.window is not None:
            data["window"] = self.window.to_json()
        if self.most_frames is not None:
            data["most_frames"] = self.most_frames
        if self.chunk != 1:
            data["chunk"] = self.chunk
        if self.lookahead is not None:
            data["lookahead"] = self.lookahead.to_json()
        return data

    @property
    def tail(self) -> int:
        """Steps behind the last frame in which some output still comes."""
        return max((spec.tail for spec in self.outputs), default=0)

    @property
    def is_late(self) -> bool:
        """Whether steps are counted: some output does not come in every one, or behind the last."""
        if self.lookahead is not None:
            return True
        return self.window is None and any(state.name == CLOCK for state in self.states)

    def without_limits(self) -> Signature:
        """The same with nothing said of what is refused: what artifacts of one model share."""
        return replace(
            self,
            inputs=tuple(replace(spec, limit=math.inf, ranges=()) for spec in self.inputs),
            checks_states=False,
            state_limit=math.inf,
            window=None if self.window is None else self.window.without_limits(),
            lookahead=None if self.lookahead is None else self.lookahead.without_limits(),
        )

    @classmethod
    def from_json(cls, data: Any) -> Signature:
        """Read what `to_json` wrote; keys that are not known are left alone.

        Raises:
            ArtifactFormatError: a field is missing, or not of its type.
        """
        fields = data if isinstance(data, Fields) else Fields(data, "signature")
        rate_hz = fields.optional_number("rate_hz")
        if rate_hz is not None and rate_hz <= 0:
            fields.refuse("rate_hz", "a positive number")
        return cls(
            name=fields.text("name"),
            mode=fields.text("mode"),
            inputs=tuple(TensorSpec.from_json(spec) for spec in fields.objects("inputs")),
            outputs=tuple(TensorSpec.from_json(spec) for spec in fields.objects("outputs")),
            states=tuple(StateSpec.from_json(spec) for spec in fields.objects("states")),
            input_bytes=fields.count("input_bytes", most=LARGEST_BLOCK_BYTES),
            output_bytes=fields.count("output_bytes", most=LARGEST_BLOCK_BYTES),
            rate_hz=rate_hz,
            checks_states=fields.flag("checks_states", False),
            state_limit=_limit(fields, "state_limit"),
            window=WindowPlan.from_json(fields.object("window")) if "window" in fields else None,
            most_frames=fields.optional_count("most_frames"),
            chunk=fields.integer("chunk", 1, _MOST_CHUNK, 1),
            lookahead=(
                LookaheadPlan.from_json(fields.object("lookahead"))
                if "lookahead" in fields
                else None
            ),
        )


@dataclass(frozen=True, slots=True)
class WindowPlan:
    """What a window model does with its frames.

    Window j (from 0) consists of the frames j * hop to j * hop + frames - 1; its answer is there
    with the last of them.

    Args:
        frames: of one window.
        hop: frames from the beginning of one window to that of the next.
        kernel: what the code computes. Where it is a stream, a step of one window, and as many
            windows as are open at once are stepped side by side; where it is a call, a whole one.
        carries: a window begins with the state that the one before it ended with.
        smoothing: "mean" or "vote" of the newest answers, see `edgelstm.sessions.smoothing`; "" for
            answers as they are.
        smoothed: of how many answers.
    """

    frames: int
    hop: int
    kernel: Signature
    carries: bool = False
    smoothing: str = ""
    smoothed: int = 1

    @property
    def slots(self) -> int:
        """Windows that are open at once, at most."""
        return -(-self.frames // self.hop)

    def to_json(self) -> dict[str, Any]:
        """A JSON object; `from_json` reads it back."""
        return {
            "frames": self.frames,
            "hop": self.hop,
            "kernel": self.kernel.to_json(),
            "carries": self.carries,
            "smoothing": self.smoothing,
            "smoothed": self.smoothed,
        }

    def without_limits(self) -> WindowPlan:
        """The same with nothing said of what is refused."""
        return replace(self, kernel=self.kernel.without_limits())

    @classmethod
    def from_json(cls, data: Any) -> WindowPlan:
        """Read what `to_json` wrote.

        Raises:
            ArtifactFormatError: a field is missing, not of its type, or contradicts another.
        """
        fields = data if isinstance(data, Fields) else Fields(data, "window")
        inner = fields.object("kernel")
        if "window" in inner:
            fields.refuse("kernel", "the signature of a step or of a call")
        kernel = Signature.from_json(inner)
        plan = cls(
            frames=fields.integer("frames", 1, _MOST_FRAMES),
            hop=fields.integer("hop", 1, _MOST_FRAMES),
            kernel=kernel,
            carries=fields.flag("carries", False),
            smoothing=fields.text("smoothing", ""),
            smoothed=fields.integer("smoothed", 1, _MOST_SMOOTHED, 1),
        )
        if plan.smoothing not in ("", *SMOOTHINGS):
            fields.refuse("smoothing", f"one of {', '.join(SMOOTHINGS)}")
        if plan.carries and plan.hop != plan.frames:
            fields.refuse("hop", "the length of the window, across which the state is carried")
        return plan


@dataclass(frozen=True, slots=True)
class LookaheadPlan:
    """How a look-ahead model cuts its frames.

    Chunk k (from 0) consists of the frames k * chunk to k * chunk + span - 1, and answers for the
    first `chunk` of them; behind the last frame of a recording there are no more.

    Args:
        chunk: N, frames that are answered together.
        ahead: L, further frames that those see.
        kernel: what the code computes, a step of which takes a chunk: its states are those of the
            forward halves after N frames, and `THERE`.
    """

    chunk: int
    ahead: int
    kernel: Signature

    @property
    def span(self) -> int:
        """Frames that one chunk sees."""
        return self.chunk + self.ahead

    @property
    def delay(self) -> int:
        """Frames by which the first answer of a chunk is late; the last one is `ahead` late."""
        return self.span - 1

    def to_json(self) -> dict[str, Any]:
        """A JSON object; `from_json` reads it back."""
        return {"chunk": self.chunk, "ahead": self.ahead, "kernel": self.kernel.to_json()}

    def without_limits(self) -> LookaheadPlan:
        """The same with nothing said of what is refused."""
        return replace(self, kernel=self.kernel.without_limits())

    @classmethod
    def from_json(cls, data: Any) -> LookaheadPlan:
        """Read what `to_json` wrote.

        Raises:
            ArtifactFormatError: a field is missing, or not of its type.
        """
        fields = data if isinstance(data, Fields) else Fields(data, "lookahead")
        inner = fields.object("kernel")
        if "window" in inner or "lookahead" in inner:
            fields.refuse("kernel", "the signature of a step")
        return cls(
            chunk=fields.integer("chunk", 1, _MOST_FRAMES),
            ahead=fields.count("ahead", most=_MOST_FRAMES),
            kernel=Signature.from_json(inner),
        )


def _limit(fields: Fields, name: str) -> float:
    if name not in fields.data:
        return math.inf
    limit = fields.number(name)
    if limit <= 0:
        fields.refuse(name, "a positive number")
    return limit


def _runs(fields: Fields) -> list[Any]:
    return fields.items("ranges") if "ranges" in fields.data else []


def _run(run: Any, dtype: DType, fields: Fields) -> tuple[int, float, float]:
    kind = float if dtype.is_float else int
    if not isinstance(run, list) or len(run) != 3:
        fields.refuse("ranges", "a list of [elements, lowest, highest]")
    count, low, high = run
    if type(count) is not int or count < 1 or not all(type(end) is kind for end in (low, high)):
        fields.refuse("ranges", "a list of [elements, lowest, highest] in the tensor's own type")
    return count, low, high
