"""Why the model said so: the inside of its layers before a moment, and what each channel adds.

Both come from feeding the last seconds once more. The states at their beginning are not kept, so
they are found anew from everything that is still there; how far the second answer is from the
first says how well that went.

Source of the attribution: occlusion, Zeiler and Fergus 2014 ("Visualizing and Understanding
Convolutional Networks"), here along time: a stretch of a channel is replaced by its mean, and what
the answer loses is what the stretch had added.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelstm.artifact import Artifact
from edgelstm.blocks import outputs_by_name
from edgelstm.dtypes import DType
from edgelstm.engines.reference import ReferenceKernel
from edgelstm.engines.reference_program import ProgramNode
from edgelstm.errors import CapabilityError, RecordingError
from edgelstm.samples import Result, by_name
from edgelstm.sessions import mode_of
from edgelstm.signature import Signature
from edgelstm.snapshot import Snapshot
from edgelstm.stream_frames import packed_inputs

Array = NDArray[Any]

SHOWN_S = 4.0
"""How much before the moment is looked into."""

MOST_FRAMES = 4000
STRETCHES = 8
COLUMNS = 200
"""Of a heat map."""

_TOGETHER = 64
_Q15 = 32768.0


@dataclass(frozen=True, slots=True)
class HeatMap:
    """One value of a layer's units over time.

    Args:
        layer, name: what is shown.
        values: `(units, columns)`.
        is_signed: around zero; else from 0 to 1.
    """

    layer: str
    name: str
    values: Array
    is_signed: bool


@dataclass(frozen=True, slots=True)
class Insight:
    """What there is to say about one answer.

    Args:
        score: what the model answered, fed once more.
        difference: the greatest between the outputs then and now, at the moment.
        warm_up_s: how much was fed before what is shown, to find the states.
        times: of the columns of heat maps, seconds before the moment.
        maps: states of the compiled model; gates and attention where a reference program is there.
        edges: of the stretches, seconds before the moment.
        by_stretch: `(channels, stretches)`: what the score loses without that stretch.
        by_channel: `(channels,)`: the same without all of them.
    """

    score: float
    difference: float
    warm_up_s: float
    times: Array
    maps: tuple[HeatMap, ...]
    edges: Array
    by_stretch: Array
    by_channel: Array


def can_explain(model: Artifact) -> bool:
    """Whether answers are those of the sample that they come with."""
    signature = model.signature
    is_stepped = mode_of(signature.mode).takes_many and signature.chunk == 1
    return is_stepped and not signature.is_late


class Explainer:
    """Explains answers of one model.

    Args:
        model: the compiled model that runs.
        reference: the same model compiled with `--target reference`; None where there is none.

    Raises:
        CapabilityError: it is another model, or one whose answers are not of its last sample.
    """

    def __init__(self, model: Artifact, reference: Artifact | None = None) -> None:
        self.model = model
        signature = model.signature
        if not can_explain(model):
            raise CapabilityError(
                f"{model.name!r} has no insight: that is for models compiled with --mode stream, "
                "without --chunk, whose outputs keep step with their samples"
            )
        if reference is None and isinstance(model.kernel, ReferenceKernel):
            reference = model
        if reference is not None and reference.model_id != model.model_id:
            raise CapabilityError(
                f"{reference.name!r} is not the model that runs ({reference.model_id[:12]} against "
                f"{model.model_id[:12]}): compile the same file with the same options and --target "
                "reference"
            )
        if reference is not None and not isinstance(reference.kernel, ReferenceKernel):
            raise CapabilityError(
                f"gates are read from a reference program, and {reference.name!r} has none: "
                "compile the model with --target reference"
            )
        self._reference = reference
        self._sizes = [int(np.prod(spec.shape)) for spec in signature.inputs]
        self.outputs = [
            (index, element)
            for index, spec in enumerate(signature.outputs)
            for element in range(int(np.prod(spec.shape)))
        ]

    @property
    def has_gates(self) -> bool:
        """Whether a reference program is there."""
        return self._reference is not None

    @property
    def channels(self) -> int:
        """How many values a frame has."""
        return sum(self._sizes)

    def explain(self, times: Array, frames: Array, said: Array, output: int) -> Insight:
        """Explain the answer to the last frame.

        Args:
            times: seconds of each frame, rising.
            frames: `(n, channels)`: everything that was fed and is still known.
            said: `(outputs,)`: the answer that was given to the last one.
            output: number among all elements of all outputs.

        Raises:
            RecordingError: there is too little, or no such output.
        """
        if not 0 <= output < len(self.outputs):
            raise RecordingError(f"there is no output {output}: there are {len(self.outputs)}")
        frames, times = _measured(frames, times)
        first = max(int(np.searchsorted(times, times[-1] - SHOWN_S)), len(times) - MOST_FRAMES)
        if len(times) - first < 2 * STRETCHES:
            raise RecordingError(
                f"only {len(times) - first} samples before that moment: choose a later one"
            )
        with self.model.session() as session:
            if first:
                session.run(self._fed(frames[:first]))
            before = session.snapshot()
        shown, since = frames[first:], times[first:] - times[-1]
        columns = np.unique(np.linspace(0, len(shown) - 1, COLUMNS).round().astype(int))
        answers, maps = self._walk(before, shown, columns)
        maps += self._inside(before, shown, columns)
        edges = np.linspace(since[0], 0.0, STRETCHES + 1)
        bounds = np.searchsorted(since, edges[1:-1])
        stretches = list(zip([0, *bounds], [*bounds, len(shown)], strict=True))
        by_stretch, by_channel = self._occlude(
            before, shown, frames.mean(axis=0), stretches, output, float(answers[output])
        )
        known = np.asarray(said, np.float64)[: len(answers)]
        return Insight(
            float(answers[output]),
            float(np.abs(answers[: len(known)] - known).max(initial=0.0)),
            float(times[first] - times[0]),
            since[columns],
            maps,
            edges,
            by_stretch,
            by_channel,
        )

    def _walk(
        self, before: Snapshot, shown: Array, columns: Array
    ) -> tuple[Array, tuple[HeatMap, ...]]:
        """The last answer, and the states of the compiled model after the frames of columns."""
        signature = self.model.signature
        states = [spec for spec in signature.states if _is_shown(spec.dtype, spec.shape)]
        kept: dict[str, list[Array]] = {spec.name: [] for spec in states}
        chosen = set(columns.tolist())
        with self.model.session() as session:
            session.restore(before)
            for k in range(len(shown)):
                result = session.run(self._fed(shown[k : k + 1]))
                if k in chosen:
                    for name, rows in kept.items():
                        rows.append(np.asarray(session.get_state(name), np.float32).reshape(-1))
        layers = list(dict.fromkeys(name.rpartition(".")[0] for name in kept))
        maps = tuple(
            HeatMap(f"layer {1 + layers.index(layer)}", _title(state), np.stack(rows, axis=1), True)
            for name, rows in kept.items()
            for layer, _, state in (name.rpartition("."),)
        )
        return _flat(result, signature)[-1], maps

    def _inside(self, before: Snapshot, shown: Array, columns: Array) -> tuple[HeatMap, ...]:
        """Gates and attention of the reference program over the same frames."""
        if self._reference is None:
            return ()
        kernel = self._reference.kernel
        assert isinstance(kernel, ReferenceKernel)
        signature = self._reference.signature
        wanted = _wanted(kernel)
        kept: dict[tuple[str, str], list[Array]] = {key: [] for key in wanted}

        def inside(node: ProgramNode, name: str, value: Array) -> None:
            key = (node.label, name)
            if key in kept:
                kept[key].append(np.asarray(value).reshape(-1))

        state = np.frombuffer(before.state, np.uint8).copy()
        result = np.zeros(signature.output_bytes, np.uint8)
        rows: dict[tuple[str, str], list[Array]] = {key: [] for key in wanted}
        chosen = set(columns.tolist())
        for k, frame in enumerate(self._blocks(shown)):
            for each in kept.values():
                each.clear()
            kernel.trace(state, frame, result, inside)
            if k in chosen:
                for key, each in kept.items():
                    rows[key].append(np.concatenate(each) if each else np.zeros(1))
        return tuple(
            HeatMap(*wanted[key][:2], np.stack(each, axis=1) / wanted[key][2], wanted[key][3])
            for key, each in rows.items()
        )

    def _occlude(
        self,
        before: Snapshot,
        shown: Array,
        means: Array,
        stretches: Sequence[tuple[int, int]],
        output: int,
        score: float,
    ) -> tuple[Array, Array]:
        """What the score loses without each stretch of each channel, and without each channel."""
        whole = (0, len(shown))
        cases = [(c, part) for c in range(self.channels) for part in (*stretches, whole)]
        lost = np.empty(len(cases))
        for at in range(0, len(cases), _TOGETHER):
            some = cases[at : at + _TOGETHER]
            block = np.repeat(shown[:, None, :], len(some), axis=1)
            for place, (channel, (begin, end)) in enumerate(some):
                block[begin:end, place, channel] = means[channel]
            with self.model.session(streams=len(some)) as streams:
                for place in range(len(some)):
                    streams.restore(place, before)
                answers = _flat(streams.run(self._fed(block)), self.model.signature, 2)
            lost[at : at + len(some)] = score - answers[-1, :, output]
        table = lost.reshape(self.channels, len(stretches) + 1)
        return table[:, :-1], table[:, -1]

    def _fed(self, frames: Array) -> Any:
        """Rows of channels as the model takes them, by input."""
        found: dict[str, Array] = {}
        at = 0
        for spec, size in zip(self.model.signature.inputs, self._sizes, strict=True):
            part = frames[..., at : at + size]
            found[spec.name] = part.reshape(*frames.shape[:-1], *spec.shape).astype(
                spec.dtype.numpy
            )
            at += size
        return next(iter(found.values())) if len(found) == 1 else found

    def _blocks(self, frames: Array) -> Array:
        """Frames as the bytes of input blocks."""
        signature = self.model.signature
        fed = by_name(self._fed(frames[:, None]), signature.inputs)
        return packed_inputs(fed, signature)[:, 0]


def _wanted(kernel: ReferenceKernel) -> dict[tuple[str, str], tuple[str, str, float, bool]]:
    """What is kept of a program: layer, title, divisor and sign, by operator and name."""
    found: dict[tuple[str, str], tuple[str, str, float, bool]] = {}
    number = 0
    for node in kernel.nodes:
        cell = node.fields.get("cell")
        if cell is not None and hasattr(cell, "traced_gates"):
            number += 1
            scale = _Q15 if node.op == "IntegerRecurrent" else 1.0
            for gate in cell.traced_gates:
                title = cell.gates[gate.gate]
                is_signed = gate.range.value == "signed"
                found[node.label, gate.value] = (f"layer {number}", title, scale, is_signed)
        elif node.op == "Softmax" and not kernel.shows(node):
            found[node.label, "weights"] = (node.label, "attention weights", 1.0, False)
    return found


def _measured(frames: Array, times: Array) -> tuple[Array, Array]:
    """What is behind the last frame that holds no number."""
    if not len(frames):
        raise RecordingError("there are no samples before that moment: choose a later one")
    gaps = np.flatnonzero(~np.isfinite(frames).all(axis=1))
    begin = int(gaps[-1]) + 1 if len(gaps) else 0
    if begin == len(frames):
        raise RecordingError("nothing was measured at that moment: choose another one")
    return frames[begin:], times[begin:]


def _is_shown(dtype: DType, shape: Sequence[int]) -> bool:
    return dtype is not DType.BOOL and 2 <= int(np.prod(shape)) <= 2048


def _title(state: str) -> str:
    return {"h": "hidden state", "c": "cell state"}.get(state, state)


def _flat(result: Result | None, signature: Signature, axes: int = 1) -> Array:
    """All elements of all outputs behind the axes of frames and streams."""
    found = outputs_by_name(signature, result)
    parts = []
    for spec in signature.outputs:
        data = np.asarray(found[spec.name], np.float64)
        parts.append(data.reshape(*data.shape[:axes], -1))
    return np.concatenate(parts, axis=-1)
