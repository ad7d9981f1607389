"""How good a quantized model is, told by frames that it was not calibrated on.

Without recordings of their own the last fifth is left out: a twin that is calibrated on the other
frames is measured there, and the model itself is calibrated on all of them. Both run there, and
the worse counts: a glitch in the last fifth harms the model, not its twin.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from edgelstm.dtypes import is_floating
from edgelstm.errors import CalibrationError
from edgelstm_compiler.check_inputs import default_domain, draw_white, find_domains, types_of
from edgelstm_compiler.ir.activations import SIGMOID
from edgelstm_compiler.ir.graph import StepGraph, constant_data
from edgelstm_compiler.ir.ops import Cast, Dense, Unary
from edgelstm_compiler.ir.types import Array, Node, Value
from edgelstm_compiler.quant.accuracy import ErrorMeasure, measure
from edgelstm_compiler.quant.build import MOVEMENTS
from edgelstm_compiler.quant.calibration import Calibration
from edgelstm_compiler.quant.channels import column_scales, is_layer_on
from edgelstm_compiler.quant.extremes import Spread
from edgelstm_compiler.quant.replay import Recording, Replay, timed_inputs

GOOD_DB = 25.0
GOOD_AGREEMENT = 0.98
"""Below these a compilation warns."""

USELESS_DB = 10.0
"""Below this a model that was measured on recordings is refused."""

SETTLING = 50
"""Frames behind a glitch that are not counted where glitches are left out of the ranges."""

_SYNTHETIC = 256
_SHARE = 5
_FEWEST = 20
_LARGEST = ("Softmax", "LogSoftmax", "ArgMax")


@dataclass(frozen=True, slots=True)
class HeldOut:
    """What was measured.

    Args:
        on: which frames, in words.
        is_real: they come from recordings.
        frames: how many counted (calls in call mode).
        outputs: by name; `agreement` where decisions end the model.
    """

    on: str
    is_real: bool
    frames: int
    outputs: Mapping[str, ErrorMeasure]

    def warnings(self) -> list[str]:
        """What is not as close as one expects of a quantized model."""
        found = []
        for name, error in self.outputs.items():
            if np.isfinite(error.sqnr_db) and error.sqnr_db < GOOD_DB:
                found.append(
                    f"output {name!r} has {error.sqnr_db:.1f} dB on {self.on}, less than "
                    f"{GOOD_DB:g}: try a scheme of more bits, --keep, or better recordings"
                )
            if error.agreement is not None and error.agreement < GOOD_AGREEMENT:
                found.append(
                    f"output {name!r} decides as the float32 model on "
                    f"{100 * error.agreement:.1f} % of {self.on}, less than "
                    f"{100 * GOOD_AGREEMENT:g} %"
                )
        return found

    def expect_useful(self) -> None:
        """Refuse what has nothing to do with the model any more.

        Raises:
            CalibrationError: an output has less than `USELESS_DB`.
        """
        for name, error in self.outputs.items():
            if self.is_real and not error.sqnr_db >= USELESS_DB and error.sqnr_db != -np.inf:
                raise CalibrationError(
                    f"quantized, output {name!r} has {error.sqnr_db:.1f} dB on {self.on}: that is "
                    f"not the model any more (least: {USELESS_DB:g} dB). Calibrate with recordings "
                    "of what the sensors see, look for glitches (--ranges percentile), or choose a "
                    "scheme of more bits; --force compiles it all the same"
                )

    def or_worse(self, other: HeldOut) -> HeldOut:
        """Each output as the worse of two measurements has it."""
        outputs = {
            name: min(error, other.outputs[name], key=lambda item: item.sqnr_db)
            for name, error in self.outputs.items()
        }
        return replace(self, outputs=outputs)

    def to_json(self) -> dict[str, Any]:
        """A JSON object."""
        return {
            "on": self.on,
            "frames": self.frames,
            "outputs": {name: error.to_json() for name, error in self.outputs.items()},
            "warnings": self.warnings(),
        }


def split_recordings(
    graph: StepGraph, recordings: Sequence[Recording]
) -> tuple[list[Recording], list[Recording]] | None:
    """What to calibrate on and the last fifth: of every recording, or of the calls.

    Returns:
        None where that leaves too little.
    """
    timed = timed_inputs(graph)
    if not timed:
        cut = len(recordings) - len(recordings) // _SHARE
        parts = list(recordings[:cut]), list(recordings[cut:])
        return parts if parts[1] else None
    before: list[Recording] = []
    last: list[Recording] = []
    frames = 0
    for recording in recordings:
        count = min(len(recording[name]) for name in timed)
        cut = count - count // _SHARE
        frames += count - cut
        for kept, part in ((before, slice(0, cut)), (last, slice(cut, count))):
            if part.stop > part.start:
                kept.append(
                    {name: x[part] if name in timed else x for name, x in recording.items()}
                )
    return (before, last) if frames >= _FEWEST else None


def synthetic_recordings(graph: StepGraph, calibration: Calibration | None) -> list[Recording]:
    """Seeded smooth inputs: as far as calibration has seen them, else as the weights expect."""
    rng = np.random.default_rng(11)
    data = constant_data(graph)
    types = types_of(graph)
    domains = find_domains(graph, lambda found: draw_white(types, found)) or {}
    inputs: dict[str, Array] = {}
    for item in graph.inputs:
        value, is_timed = item.value, item.time_axis is not None
        shape = (_SYNTHETIC, *value.type.shape) if is_timed else value.type.shape
        if not value.type.dtype.is_float:
            domain = domains.get(value.name, default_domain(value.type.dtype))
            inputs[value.name] = domain.of(rng.standard_normal(shape), value.type.dtype)
            continue
        noise = rng.standard_normal(shape)
        along = 0 if is_timed or item.time_axis is None else item.time_axis
        walk = np.tanh(0.5 * np.cumsum(noise, axis=along) / np.sqrt(8.0) + 0.2 * noise)
        middle: Array | float = 0.0
        reach: Array | float = 2.0
        if calibration is not None and value.name in calibration.values:
            found = calibration.values[value.name]
            middle, reach = found.center, found.core
        else:
            layer = next((n for n in graph.nodes if is_layer_on(n, value, data)), None)
            if layer is not None:
                columns = column_scales(layer, data)
                reach = 2.0 / (columns * np.sqrt(len(columns)))
            domain = domains.get(value.name, default_domain(value.type.dtype))
            if domain.kind != "any":
                inputs[value.name] = domain.of(2.0 * walk, value.type.dtype)
                continue
        inputs[value.name] = np.asarray(middle + walk * reach, value.type.dtype.numpy)
    return [inputs]


def measure_outputs(
    graph: StepGraph,
    quantized: StepGraph,
    recordings: Sequence[Recording],
    *,
    on: str,
    is_real: bool = True,
    skip_glitches: bool = False,
) -> HeldOut:
    """Run both graphs over recordings.

    Args:
        graph: in float32.
        quantized: with the same inputs and outputs.
        recordings: not those it was calibrated on.
        on: what they are, in words.
        is_real: they are recordings.
        skip_glitches: leave out frames with glitches and `SETTLING` behind them.
    """
    wanted, found = (
        output_rows(each, recordings, skip_glitches=skip_glitches) for each in (graph, quantized)
    )
    frames = min(map(len, wanted.values()), default=0)
    return HeldOut(on, is_real, frames, compare_rows(graph, wanted, found))


def output_rows(
    graph: StepGraph, recordings: Sequence[Recording], *, skip_glitches: bool = False
) -> dict[str, Array]:
    """All outputs of a graph over recordings, one behind the other, by name.

    Args:
        graph: in float32 or quantized, with float inputs.
        recordings: what it is fed with.
        skip_glitches: leave out frames with glitches and `SETTLING` behind them.
    """
    replay = Replay(graph)
    rows: dict[str, list[Array]] = {out.name: [] for out in graph.outputs}
    for recording in recordings:
        counted: slice | Array = slice(None)
        if skip_glitches and timed_inputs(graph):
            counted = _quiet(graph, recording)
        for name, data in replay.run(recording).items():
            rows[name].append(data[counted])
    return {name: np.concatenate(parts) for name, parts in rows.items()}


def compare_rows(
    graph: StepGraph, wanted: Mapping[str, Array], found: Mapping[str, Array]
) -> dict[str, ErrorMeasure]:
    """How far rows of outputs are from those of the float32 graph, by name."""
    return {
        out.name: _compared(graph, out.value, wanted[out.name], found[out.name])
        for out in graph.outputs
    }


def _compared(graph: StepGraph, value: Value, wanted: Array, found: Array) -> ErrorMeasure:
    error = measure(wanted, found)
    same: float | None = None
    last = _decision(graph, value)
    if last is not None and wanted.size:
        if not is_floating(wanted.dtype):
            same = float(np.mean(wanted == found))
        elif last.op.kind in _LARGEST:
            axis = getattr(last.op, "axis", -1)
            is_same_rank = last.outputs[0].type.shape == value.type.shape
            axis = axis + 1 if is_same_rank and axis >= 0 else -1
            same = float(np.mean(wanted.argmax(axis=axis) == found.argmax(axis=axis)))
        else:
            same = float(np.mean((wanted > 0.5) == (found > 0.5)))
    sqnr = error.sqnr_db
    if not is_floating(wanted.dtype) or not wanted.size:
        sqnr = float("inf")  # decisions have an agreement, no power
    return ErrorMeasure(sqnr, error.max_error, error.mean_error, error.rms_error, same)


def _decision(graph: StepGraph, value: Value) -> Node | None:
    """The node that ends the model with a decision, seen through data movement."""
    producers = {out: node for node in graph.nodes for out in node.outputs}
    node = producers.get(value)
    while node is not None and isinstance(node.op, (*MOVEMENTS, Cast)):
        source = node.inputs[0]
        node = None if source is None else producers.get(source)
    if node is None:
        return None
    is_sigmoid = isinstance(node.op, (Unary, Dense)) and node.op.activation == SIGMOID
    return node if is_sigmoid or node.op.kind in _LARGEST else None


def _quiet(graph: StepGraph, recording: Recording) -> Array:
    """Which frames have no glitch, and none shortly before them (n,)."""
    timed = [item.value.name for item in graph.inputs if item.time_axis is not None]
    count = min(len(recording[name]) for name in timed)
    loud = np.zeros(count, bool)
    for name in timed:
        data = np.asarray(recording[name])[:count]
        if is_floating(data.dtype):
            loud |= Spread.of(data.reshape(count, -1).astype(np.float64)).extreme.any(axis=1)
    for frame in np.flatnonzero(loud):
        loud[frame : frame + SETTLING + 1] = True
    return ~loud if not loud.all() else np.ones(count, bool)
