"""Quantizes a whole model as it was asked for, and writes down what it did for the manifest."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from edgelstm.errors import CapabilityError
from edgelstm_compiler.ir.graph import StepGraph, constant_data, consumers
from edgelstm_compiler.ir.ops import Arithmetic, Binary
from edgelstm_compiler.ir.types import Array, Node, Value
from edgelstm_compiler.quant.accuracy import measure
from edgelstm_compiler.quant.build import LayerRecord
from edgelstm_compiler.quant.calibrate import calibrate
from edgelstm_compiler.quant.calibration import Calibration
from edgelstm_compiler.quant.convert import IntegerTensor, Quantized, quantize_graph
from edgelstm_compiler.quant.equalize import equalize
from edgelstm_compiler.quant.held_out import (
    HeldOut,
    measure_outputs,
    split_recordings,
    synthetic_recordings,
)
from edgelstm_compiler.quant.recordings import Recordings, as_recordings, limited
from edgelstm_compiler.quant.replay import Recording, Replay
from edgelstm_compiler.quant.rounding import choose_rounding
from edgelstm_compiler.quant.scheme import (
    AUTO,
    Damping,
    Observer,
    QuantizeOptions,
    Scheme,
    parse_scheme,
)
from edgelstm_compiler.quant.search import Trial, search_schemes
from edgelstm_compiler.quant.support import is_layer

RECIPE = 4
"""Counts up whenever the same model and calibration are quantized to other numbers."""

MEASURED_FRAMES = 2000
"""Frames (calls) of the calibration data that errors are measured on, in `auto` too."""


@dataclass(frozen=True, slots=True)
class QuantizeRequest:
    """What is asked for.

    Args:
        scheme: name of a scheme, "auto", or schemes by name of the layer.
        calibration: a finished one, or recordings to make it from, or None.
        max_error: bound for auto, see `search.end_to_end_error`.
        options: see `QuantizeOptions`.
        holdout: recordings to measure on, or None: the last fifth of those to calibrate with.
        keep: names of layers that stay in float32, beside one scheme for all others.
        force: hand out what was measured as useless too.
    """

    scheme: str | Mapping[str, str]
    calibration: Calibration | Recordings | None = None
    max_error: float | None = None
    options: QuantizeOptions = field(default_factory=QuantizeOptions)
    holdout: Recordings | None = None
    force: bool = False
    keep: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class QuantizedModel:
    """The result.

    Args:
        graph: the quantized step graph.
        float_graph: what it was made from.
        calibration: what it was made with, or None.
        record: for the manifest.
        is_exact: everything that is carried and shown is computed in integers.
    """

    graph: StepGraph
    float_graph: StepGraph
    calibration: Calibration | None
    record: dict[str, Any]
    is_exact: bool


def quantize_model(
    graph: StepGraph,
    request: QuantizeRequest,
    *,
    model: str = "",
    progress: Callable[[str], None] | None = None,
) -> QuantizedModel:
    """Calibrate, choose schemes, convert, measure.

    Args:
        graph: the float step graph.
        request: what is asked for.
        model: SHA-256 of the model.
        progress: called with what is being done.

    Raises:
        CapabilityError: a scheme without the calibration it needs, or that does not fit.
        UnsupportedOpError: a layer or attribute that the scheme refuses.
        CalibrationError: the result is useless on frames it was not calibrated on.
    """
    say = progress or (lambda text: None)
    if request.options.equalize:
        if isinstance(request.calibration, Calibration):
            raise CapabilityError(
                "equalize changes the ranges that the calibration holds: give the recordings"
            )
        graph = equalize(graph)
    calibration, recordings = _calibration(graph, request, model, say)
    trials: tuple[Trial, ...] = ()
    schemes: Scheme | dict[str, Scheme]
    if request.scheme == AUTO:
        if calibration is None:
            raise CapabilityError("auto needs recordings to calibrate with (--calibrate FILE)")
        schemes, trials = search_schemes(
            graph,
            calibration,
            limited(recordings, graph, MEASURED_FRAMES),
            request.max_error or 0.0,
            request.options,
            say,
        )
    else:
        schemes = _kept(graph, _schemes(request.scheme), request.keep)
    say("rounding")
    options = request.options
    if request.scheme == AUTO and options.damping is None:
        # What the search found stays under its bound with the damping that it searched with.
        options = replace(options, damping=Damping.HEAVY)
    rounding = choose_rounding(graph, calibration, recordings, schemes, options)
    request = replace(request, options=rounding.options)
    say("quantize")
    quantized = quantize_graph(graph, calibration, schemes, request.options)
    record: dict[str, Any] = {
        "scheme": request.scheme if isinstance(request.scheme, str) else "mixed",
        "options": request.options.to_json(),
        "rounding": rounding.to_json(),
        "calibration": _calibration_record(calibration),
        "layers": [_layer_record(layer) for layer in quantized.layers],
        "borders": [_tensor_record(tensor) for tensor in quantized.integer_tensors],
        "states": [
            {"name": name, "scale": scale} for name, scale in quantized.state_scales.items()
        ],
        "exact": is_integer(quantized.graph),
        "float_operators": float_operators(quantized.graph),
        "search": [trial.to_json() for trial in trials],
        "max_error": request.max_error,
        "recipe": RECIPE,
        "outputs": {},
    }
    floats = replace(request.options, integer_io=False)
    compared = quantized
    if request.options.integer_io:
        # The same integers behind conversions: errors are those of floats.
        compared = quantize_graph(graph, calibration, schemes, floats)
    if recordings:
        say("measure")
        _measure(graph, compared, limited(recordings, graph, MEASURED_FRAMES), record)
    held_out = _held_out(graph, compared.graph, calibration, recordings, schemes, request)
    if not request.force:
        held_out.expect_useful()
    record["held_out"] = held_out.to_json()
    return QuantizedModel(quantized.graph, graph, calibration, record, is_integer(quantized.graph))


def _held_out(
    graph: StepGraph,
    quantized: StepGraph,
    calibration: Calibration | None,
    recordings: list[Recording],
    schemes: Scheme | Mapping[str, Scheme],
    request: QuantizeRequest,
) -> HeldOut:
    """Measure on what was not calibrated on, as well as that can be had."""
    skip = request.options.observer is not Observer.MIN_MAX
    if request.holdout is not None:
        given = limited(as_recordings(graph, request.holdout), graph, MEASURED_FRAMES)
        on = "recordings held out"
        return measure_outputs(graph, quantized, given, on=on, skip_glitches=skip)
    parts = split_recordings(graph, recordings) if recordings else None
    if parts is not None:
        options = replace(request.options, integer_io=False)
        twin = quantize_graph(graph, calibrate(graph, parts[0]), schemes, options)
        last = limited(parts[1], graph, MEASURED_FRAMES)
        on = "the last fifth, left out of calibration for this"
        both = [
            measure_outputs(graph, other, last, on=on, skip_glitches=skip)
            for other in (twin.graph, quantized)
        ]
        return both[0].or_worse(both[1])
    if recordings:
        given = limited(recordings, graph, MEASURED_FRAMES)
        on = "the calibration recordings (too few to leave a fifth out)"
        return measure_outputs(graph, quantized, given, on=on, skip_glitches=skip)
    given = synthetic_recordings(graph, calibration)
    on = "synthetic input (no recordings: --calibrate or --holdout)"
    return measure_outputs(graph, quantized, given, on=on, is_real=False)


def is_integer(graph: StepGraph) -> bool:
    """Whether all but conversions of inputs and outputs is computed in integers."""
    return not float_operators(graph)


def float_operators(graph: StepGraph) -> list[str]:
    """Names and kinds of what computes in floating point, apart from conversions."""
    readers = consumers(graph)
    return [
        f"{node.name} ({node.op.kind})"
        for node in graph.nodes
        if node.op.kind not in ("Quantize", "Dequantize")
        and any(value.type.dtype.is_float for value in node.outputs)
        and not _is_offset(node, readers)
    ]


def _is_offset(node: Node, readers: Mapping[Value, list[Node]]) -> bool:
    """Whether the node takes an offset off what is converted then: part of the conversion."""
    if not isinstance(node.op, Binary) or node.op.arithmetic is not Arithmetic.SUB:
        return False
    behind = readers.get(node.outputs[0], [])
    return bool(behind) and all(reader.op.kind == "Quantize" for reader in behind)


def _calibration(
    graph: StepGraph, request: QuantizeRequest, model: str, say: Callable[[str], None]
) -> tuple[Calibration | None, list[Recording]]:
    given = request.calibration
    if given is None:
        return None, []
    if isinstance(given, Calibration):
        if given.model and model and given.model != model:
            raise CapabilityError(
                f"the calibration was made from another model (SHA-256 {given.model[:12]}..., this "
                f"one is {model[:12]}...): calibrate again"
            )
        return given, []
    recordings = as_recordings(graph, given)
    say("calibrate")
    return calibrate(graph, recordings, model=model), recordings


def _schemes(given: str | Mapping[str, str]) -> Scheme | dict[str, Scheme]:
    if isinstance(given, str):
        return _parsed(given)
    return {name: _parsed(scheme) for name, scheme in given.items()}


def _kept(
    graph: StepGraph, schemes: Scheme | dict[str, Scheme], keep: Sequence[str]
) -> Scheme | dict[str, Scheme]:
    """The schemes with some layers in float32.

    Raises:
        CapabilityError: a name that is no layer.
    """
    if not keep:
        return schemes
    layers = [node for node in graph.nodes if is_layer(node)]
    names = [node.name for node in layers]
    for name in keep:
        if name not in names:
            raise CapabilityError(
                f"there is no layer {name!r} to keep; there is {', '.join(map(repr, names))}"
            )
    if isinstance(schemes, Scheme):
        data = constant_data(graph)
        schemes = {node.name: schemes for node in layers if node.inputs[1] in data}
    return {name: scheme for name, scheme in schemes.items() if name not in keep}


def _parsed(name: str) -> Scheme:
    scheme = parse_scheme(name)
    if scheme is None:
        raise CapabilityError(f"{AUTO!r} is for whole models, not for one layer")
    return scheme


def _measure(
    graph: StepGraph,
    quantized: Quantized,
    recordings: Sequence[Recording],
    record: dict[str, Any],
) -> None:
    """Errors of every output and layer on the calibration data."""
    first_outputs = {node.name: node.outputs for node in graph.nodes}
    names = {
        layer.name: first_outputs[layer.name][0].name
        for layer in quantized.layers
        if layer.name in first_outputs
    }
    held = {
        name: quantized.shown[value] for name, value in names.items() if value in quantized.shown
    }
    present = {value.name for node in quantized.graph.nodes for value in node.outputs}
    watched = {
        name: held[name].value.name if name in held else value for name, value in names.items()
    }
    wanted = _run(graph, list(names.values()), recordings)
    found = _run(
        quantized.graph, [value for value in watched.values() if value in present], recordings
    )
    record["outputs"] = {
        out.name: measure(wanted[out.name], found[out.name]).to_json() for out in graph.outputs
    }
    for layer in record["layers"]:
        value = watched.get(layer["name"])
        if value is None or value not in found:
            continue
        data = found[value]
        if layer["name"] in held:
            integer = held[layer["name"]]
            data = (data.astype(np.float64) - integer.zero_point) * integer.scale
        error = measure(wanted[names[layer["name"]]], data)
        layer["output_sqnr_db"] = error.to_json()["sqnr_db"]


def _run(
    graph: StepGraph, watched: Sequence[str], recordings: Sequence[Recording]
) -> dict[str, Array]:
    replay = Replay(graph, watched)
    runs = [replay.run(recording) for recording in recordings]
    return {name: np.concatenate([run[name] for run in runs]) for name in runs[0]}


def _calibration_record(calibration: Calibration | None) -> dict[str, Any] | None:
    if calibration is None:
        return None
    return {
        "sha256": calibration.digest,
        "frames": calibration.frames,
        "warnings": list(calibration.warnings),
    }


def _layer_record(layer: LayerRecord) -> dict[str, Any]:
    finite = np.isfinite(layer.weight_sqnr_db)
    return {
        "name": layer.name,
        "origin": layer.origin,
        "kind": layer.kind,
        "scheme": layer.scheme.value,
        "bytes_before": layer.bytes_before,
        "bytes_after": layer.bytes_after,
        "weight_sqnr_db": round(layer.weight_sqnr_db, 2) if finite else None,
        "output_sqnr_db": None,
    }


def _tensor_record(tensor: IntegerTensor) -> dict[str, Any]:
    return {
        "name": tensor.name,
        "dtype": tensor.dtype.value,
        "scale": list(tensor.scale),
        "zero_point": tensor.zero_point,
        "offset": list(tensor.offset),
    }
