"""What goes in and out of a compiled model: names, shapes, types, units, rate and delay."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Literal

from edgelstm.dtypes import DType

Mode = Literal["stream", "call"]


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
        return data

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> TensorSpec:
        """Read what `to_json` wrote."""
        fields = dict(data)
        fields["dtype"] = DType(fields["dtype"])
        fields["shape"] = tuple(fields["shape"])
        fields["model_shape"] = tuple(fields["model_shape"])
        if "limit" in fields:
            fields["limit"] = _limit(fields["limit"])
        kind = float if fields["dtype"].is_float else int
        fields["ranges"] = tuple(_run(run, kind) for run in fields.get("ranges", ()))
        spec = cls(**fields)
        if spec.ranges and sum(count for count, _, _ in spec.ranges) != math.prod(spec.shape):
            raise ValueError(f"the ranges of {spec.name!r} are of another number of elements")
        return spec


@dataclass(frozen=True, slots=True)
class StateSpec:
    """One carried value: its place in the state block."""

    name: str
    dtype: DType
    shape: tuple[int, ...]
    offset_bytes: int

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
    def from_json(cls, data: dict[str, Any]) -> StateSpec:
        """Read what `to_json` wrote."""
        return cls(data["name"], DType(data["dtype"]), tuple(data["shape"]), data["offset_bytes"])


@dataclass(frozen=True, slots=True)
class Signature:
    """Everything a caller needs to know to step a compiled model.

    Args:
        name: C identifier; the code's symbols are `NAME_step` and `NAME_run`.
        mode: `stream` (one frame a step, state carried) or `call` (one whole function call).
        inputs: in the order of the model.
        outputs: in the order of the model.
        states: what is carried between steps; empty in call mode.
        input_bytes: size of one step's input block; frames of a block follow each other.
        output_bytes: size of one step's output block.
        rate_hz: sampling rate the model was trained for, where known.
        checks_states: every new state is checked, and kept out where it is beyond `state_limit`,
            because no limit of the inputs is known that keeps the states finite.
        state_limit: the largest magnitude of a state that is kept; infinity: any finite number.
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
        return data

    def without_limits(self) -> Signature:
        """The same with nothing said of what is refused: what artifacts of one model share."""
        return replace(
            self,
            inputs=tuple(replace(spec, limit=math.inf, ranges=()) for spec in self.inputs),
            checks_states=False,
            state_limit=math.inf,
        )

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Signature:
        """Read what `to_json` wrote."""
        return cls(
            name=data["name"],
            mode=data["mode"],
            inputs=tuple(TensorSpec.from_json(spec) for spec in data["inputs"]),
            outputs=tuple(TensorSpec.from_json(spec) for spec in data["outputs"]),
            states=tuple(StateSpec.from_json(spec) for spec in data["states"]),
            input_bytes=data["input_bytes"],
            output_bytes=data["output_bytes"],
            rate_hz=data["rate_hz"],
            checks_states=bool(data.get("checks_states", False)),
            state_limit=_limit(data["state_limit"]) if "state_limit" in data else math.inf,
        )


def _limit(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        raise ValueError(f"a limit is {value!r}")
    return float(value)


def _run(run: Any, kind: type[float]) -> tuple[int, float, float]:
    count, low, high = run
    if type(count) is not int or count < 1 or not all(type(end) is kind for end in (low, high)):
        raise ValueError(f"a range of elements is {run!r}")
    return count, low, high
