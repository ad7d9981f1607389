"""The self-check of a quantized artifact: against the quantized step graph, not against the model.

Integers must be equal bit for bit. Where gates are computed in float32, an h that lies between two
int8 steps may be rounded either way: there the difference must stay well below what quantizing
itself costs.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from edgelstm.artifact import Artifact
from edgelstm.errors import MismatchError
from edgelstm.signature import Signature
from edgelstm_compiler.ir.graph import StepGraph
from edgelstm_compiler.ir.types import Array
from edgelstm_compiler.quant.accuracy import measure
from edgelstm_compiler.quant.model import QuantizedModel
from edgelstm_compiler.quant.replay import Recording, Replay
from edgelstm_compiler.quant.search import end_to_end_error

FRAMES = 64
TOLERANCE = 1e-5
MARGIN = 0.1
"""Largest difference of artifact and graph, over that of graph and float model."""


def check_quantized(artifact: Artifact, model: QuantizedModel) -> dict[str, Any]:
    """Compare the artifact with the evaluated quantized step graph, over two chunkings.

    Returns:
        JSON facts for the manifest: done, against, max_error, tolerance, lengths, and `distance`:
        the error measures of each output against the float graph.

    Raises:
        MismatchError: they differ; names the output.
    """
    recording = calibrated_inputs(model)
    expected = Replay(model.graph).run(recording)
    exact = Replay(model.float_graph).run(_float_inputs(model, recording))
    actual = _run(artifact, model.graph, recording)
    distance = (
        {}
        if model.record["borders"]
        else {name: measure(exact[name], wanted).to_json() for name, wanted in expected.items()}
    )
    error = end_to_end_error(expected, actual)
    tolerance = 0.0
    if not model.is_exact:
        noise = 0.0 if model.record["borders"] else end_to_end_error(exact, expected)
        tolerance = max(TOLERANCE, MARGIN * noise)
    if not error <= tolerance:
        name = max(expected, key=lambda key: _largest(expected[key], actual[key]))
        raise MismatchError(
            f"self-check: output {name!r} differs from the quantized step graph by {error:.3g} "
            f"(allowed {tolerance:.3g}): the target does not compute what the scheme defines. The "
            "artifact is not written; --no-check writes it all the same"
        )
    return {
        "done": True,
        "against": "quantized step graph",
        "max_error": float(f"{error:.3g}"),
        "tolerance": float(f"{tolerance:.3g}"),
        "lengths": [] if model.graph.mode == "call" else [FRAMES],
        "distance": distance,
    }


def calibrated_inputs(model: QuantizedModel) -> dict[str, Array]:
    """Seeded smooth input within the calibrated ranges, or about standard normal without any."""
    rng = np.random.default_rng(7)
    inputs: dict[str, Array] = {}
    borders = {border["name"]: border for border in model.record["borders"]}
    for item in model.graph.inputs:
        shape, dtype = item.value.type.shape, item.value.type.dtype
        timed = model.graph.mode == "stream" and item.time_axis is not None
        count = FRAMES if timed else 1
        noise = rng.standard_normal((count, *shape))
        walk = np.tanh(0.5 * np.cumsum(noise, axis=0) / np.sqrt(8.0) + 0.2 * noise)
        values = 2.0 * walk
        name = item.value.name
        if model.calibration is not None and name in model.calibration.values:
            found = model.calibration.values[name]
            values = found.mean + walk * (found.high - found.low) / 2
        if name in borders:
            scale = np.asarray(borders[name]["scale"])
            offset = np.asarray(borders[name]["offset"] or 0.0)
            values = np.clip(np.rint((values - offset) / scale), -32768, 32767)
        elif not dtype.is_float:
            values = rng.integers(0, 2, values.shape)
        data = values.astype(dtype.numpy)
        inputs[name] = data if timed else data[0]
    return inputs


def _float_inputs(model: QuantizedModel, recording: Recording) -> dict[str, Array]:
    borders = {border["name"]: border for border in model.record["borders"]}
    inputs = {}
    for name, data in recording.items():
        border = borders.get(name)
        if border is None:
            inputs[name] = data
        else:
            scale = np.asarray(border["scale"])
            offset = np.asarray(border["offset"] or 0.0)
            steps = data - border["zero_point"]
            inputs[name] = (steps * scale + offset).astype(np.float32)
    return inputs


def _run(artifact: Artifact, graph: StepGraph, recording: Recording) -> dict[str, Array]:
    session, signature = artifact.session(), artifact.signature
    shaped = {
        spec.name: np.asarray(recording[spec.name]).reshape(-1, *spec.shape)
        for spec in signature.inputs
    }
    if signature.mode == "call":
        call = {spec.name: shaped[spec.name][0] for spec in signature.inputs}
        return _rows(session.call(call), signature, graph, 1)
    frames = {name: np.repeat(x, FRAMES, 0) if len(x) == 1 else x for name, x in shaped.items()}
    cut = FRAMES // 3
    parts = [
        _rows(
            session.run({name: x[start:stop] for name, x in frames.items()}),
            signature,
            graph,
            stop - start,
        )
        for start, stop in ((0, cut), (cut, FRAMES))
    ]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _rows(result: Any, signature: Signature, graph: StepGraph, count: int) -> dict[str, Array]:
    by_name = result if isinstance(result, dict) else {signature.outputs[0].name: result}
    shapes = {out.name: out.value.type.shape for out in graph.outputs}
    return {name: np.array(value).reshape(count, *shapes[name]) for name, value in by_name.items()}


def _largest(expected: Array, actual: Array) -> float:
    return float(np.abs(actual.astype(np.float64) - expected).max(initial=0.0))
