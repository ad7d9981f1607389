"""A model with states as inputs, called step by step with its states fed back: what is expected."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from edgelstm.dtypes import DType
from edgelstm.signature import Signature
from edgelstm_compiler.binding.carried import CarriedModel
from edgelstm_compiler.binding.dimensions import Shapes
from edgelstm_compiler.comparison import relative_error
from edgelstm_compiler.ir.evaluate import evaluate
from edgelstm_compiler.ir.types import Array
from edgelstm_compiler.onnx_import.peer import OnnxRuntimePeer, PeerUnavailableError
from edgelstm_compiler.step_trace import rounded
from edgelstm_compiler.streaming.carry import Overlap

Call = Callable[[Mapping[str, Array]], Mapping[str, Array]]


@dataclass(frozen=True, slots=True)
class Replayed:
    """All steps of a replay.

    Args:
        values: by output (n, elements); and as "state NAME" (1, elements), by input of the model,
            the state after the last step.
        against: who computed it.
    """

    values: Mapping[str, Array]
    against: str


@dataclass(slots=True)
class CarriedReplay:
    """The model itself, without the step graph: an independent witness.

    Args:
        found: the model and its pairs.
    """

    found: CarriedModel
    _peer: OnnxRuntimePeer | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        try:
            self._peer = OnnxRuntimePeer(self.found.model)
        except PeerUnavailableError:
            self._peer = None

    def run(self, frames: Mapping[str, Array]) -> Replayed:
        """ONNX Runtime where it takes the model, else the evaluation in float64.

        Args:
            frames: by input that is no state (n, *elements in the model's order).
        """
        if self._peer is not None:
            try:
                return self._replay(frames, self._peer.run, None, self._peer.version)
            except PeerUnavailableError:
                pass  # refuses an attribute, or its own shapes: the evaluation decides
        return self.exact(frames)

    def exact(self, frames: Mapping[str, Array]) -> Replayed:
        """The evaluation of the imported graph in float64."""
        return self._replay(frames, self._evaluated(DType.F64), DType.F64, "float64 evaluation")

    def noise(self, frames: Mapping[str, Array], exact: Replayed) -> dict[str, float]:
        """How far float32 arithmetic, and rounding the inputs, put outputs and states."""
        runs = [self._replay(frames, self._evaluated(None), None, "")]
        for seed in (1, 2):
            rng = np.random.default_rng(seed)
            moved = {name: rounded(x, rng) for name, x in frames.items()}
            runs.append(self._replay(moved, self._evaluated(DType.F64), DType.F64, ""))
        return {
            name: max(relative_error(run.values[name], wanted) for run in runs)
            for name, wanted in exact.values.items()
        }

    def _evaluated(self, dtype: DType | None) -> Call:
        def call(inputs: Mapping[str, Array]) -> Mapping[str, Array]:
            with np.errstate(all="ignore"):
                return evaluate(self.found.graph, inputs, dtype=dtype).outputs

        return call

    def _replay(
        self, frames: Mapping[str, Array], call: Call, dtype: DType | None, against: str
    ) -> Replayed:
        carried, shapes = self.found.carried, self.found.shapes
        kinds = {value.name: value.type.dtype.numpy for value in self.found.graph.inputs}
        states = {s.pair.before: s.initial.reshape(shapes[s.pair.before]) for s in carried.states}
        chunks = Chunks(shapes, carried.overlaps)
        rows: dict[str, list[Array]] = {}
        steps = len(next(iter(frames.values()))) if frames else 0
        for index in range(steps):
            inputs = {name: chunks.whole(name, x[index]) for name, x in frames.items()}
            inputs.update(states)
            if dtype is None:
                inputs = {name: np.asarray(x, kinds[name]) for name, x in inputs.items()}
            outputs = call(inputs)
            for before, after in carried.by_input.items():
                states[before] = outputs[after].reshape(shapes[before])
            for name, x in outputs.items():
                rows.setdefault(name, []).append(np.array(x).reshape(-1))
        values = {name: np.stack(x) for name, x in rows.items()}
        values.update((f"state {name}", x.reshape(1, -1)) for name, x in states.items())
        return Replayed(values, against)


class Chunks:
    """The model's inputs out of frames: with the newest elements of the frame before in front."""

    def __init__(self, shapes: Shapes, overlaps: Sequence[Overlap]) -> None:
        self._shapes = shapes
        self._overlaps = {item.name: item for item in overlaps if item.count}
        self._tails: dict[str, Array] = {}

    def whole(self, name: str, frame: Array) -> Array:
        """One input of one step."""
        item, shape = self._overlaps.get(name), self._shapes[name]
        if item is None:
            return frame.reshape(shape)
        axis, extent = item.axis, shape[item.axis]
        new = frame.reshape((*shape[:axis], extent - item.count, *shape[axis + 1 :]))
        zeros = np.zeros((*shape[:axis], item.count, *shape[axis + 1 :]), new.dtype)
        joined = np.concatenate([self._tails.get(name, zeros), new], axis)
        self._tails[name] = np.take(joined, np.arange(extent - item.count, extent), axis)
        return joined


def frames_by_input(signature: Signature, frames: Mapping[str, Array]) -> dict[str, Array]:
    """Frames of a session's inputs as rows of elements."""
    return {
        spec.name: np.ascontiguousarray(frames[spec.name]).reshape(len(frames[spec.name]), -1)
        for spec in signature.inputs
    }
