"""Runs what was compiled beside the model it came from, before anybody gets it.

Expected values come from ONNX Runtime if it is installed and takes the model, else from the float64
evaluation of the imported graph. Where time is free, two lengths are compared.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgelstm.artifact import Artifact
from edgelstm.dtypes import DType
from edgelstm.errors import EdgeLSTMError, MismatchError
from edgelstm.signature import Signature, TensorSpec
from edgelstm_compiler.binding import Binding
from edgelstm_compiler.blame import first_divergence
from edgelstm_compiler.comparison import relative_error
from edgelstm_compiler.ir.evaluate import evaluate
from edgelstm_compiler.ir.graph import StepGraph
from edgelstm_compiler.ir.ops import Recurrent
from edgelstm_compiler.ir.ops.recurrent import SEQUENCE_LENS
from edgelstm_compiler.ir.types import Array
from edgelstm_compiler.onnx_import.importer import import_graph
from edgelstm_compiler.onnx_import.peer import OnnxRuntimePeer, PeerUnavailableError
from edgelstm_compiler.onnx_import.read import OnnxModel

TOLERANCE = 1e-5
"""Largest error, relative to the largest expected value where that exceeds 1."""

LENGTHS = (9, 23)
"""Numbers of frames compared where time is free."""


@dataclass(frozen=True, slots=True)
class Expected:
    """What the model computes on some input, and who said so."""

    outputs: Mapping[str, Array]
    against: str


class Oracle:
    """ONNX Runtime where it takes the model, else the float64 evaluation."""

    def __init__(self, model: OnnxModel) -> None:
        self._model = model
        self._peer: OnnxRuntimePeer | None = None
        if OnnxRuntimePeer.available():
            try:
                self._peer = OnnxRuntimePeer(model)
            except PeerUnavailableError:
                self._peer = None

    def run(self, inputs: Mapping[str, Array]) -> Expected:
        """The model's outputs.

        Raises:
            ModelError: the model cannot be evaluated at these shapes.
        """
        if self._peer is not None:
            try:
                return Expected(self._peer.run(dict(inputs)), self._peer.version)
            except PeerUnavailableError:
                pass  # refuses an attribute (layout=1), or its own shapes: the evaluation decides
        graph = import_graph(self._model, {name: x.shape for name, x in inputs.items()})
        used = {value.name for value in graph.inputs}
        given = {name: x for name, x in inputs.items() if name in used}
        return Expected(evaluate(graph, given, dtype=DType.F64).outputs, "float64 evaluation")


def check_artifact(
    artifact: Artifact, model: OnnxModel, binding: Binding, step_graph: StepGraph
) -> dict[str, Any]:
    """Compare the artifact with the model on seeded random input.

    Returns:
        JSON facts for the manifest: done, against, max_error, tolerance, lengths.

    Raises:
        MismatchError: they differ; names the output, and the first stage and node that diverge.
    """
    oracle = Oracle(model)
    if artifact.signature.mode == "call":
        lengths: Sequence[int | None] = (None,)
    else:
        lengths = LENGTHS if binding.free_time else (None,)
    worst, against = 0.0, ""
    for length in lengths:
        shapes = binding.shapes if length is None else binding.shapes_for(length)
        inputs = random_inputs(binding, shapes)
        expected = _expected(oracle, inputs, length, binding)
        against = expected.against
        actual = run_artifact(artifact, inputs)
        for name, wanted in expected.outputs.items():
            error = relative_error(actual[name], wanted)
            worst = max(worst, error)
            if not error <= TOLERANCE:
                where = first_divergence(model, binding, step_graph, artifact, inputs, TOLERANCE)
                frames = "" if length is None else f" over {length} frames"
                raise MismatchError(
                    f"self-check: output {name!r} differs from {against} by {error:.3g}{frames} "
                    f"(allowed {TOLERANCE:g}); {where}. The artifact is not written; "
                    "--no-check writes it all the same"
                )
    return {
        "done": True,
        "against": against,
        "max_error": float(f"{worst:.3g}"),
        "tolerance": TOLERANCE,
        "lengths": [length for length in lengths if length is not None],
    }


def random_inputs(binding: Binding, shapes: Mapping[str, Sequence[int]]) -> dict[str, Array]:
    """Seeded input for the model: standard normal floats, small non-negative integers.

    `sequence_lens` are drawn between 1 and the longest possible, as ONNX wants them.
    """
    lengths = _sequence_lens(binding)
    inputs: dict[str, Array] = {}
    for value in binding.graph.inputs:
        rng = np.random.default_rng(zlib.crc32(value.name.encode()))
        shape, dtype = tuple(shapes[value.name]), value.type.dtype
        if value.name in lengths:
            inputs[value.name] = rng.integers(1, lengths[value.name] + 1, shape).astype(dtype.numpy)
        elif dtype.is_float:
            inputs[value.name] = rng.standard_normal(shape).astype(dtype.numpy)
        else:
            inputs[value.name] = rng.integers(0, 2, shape).astype(dtype.numpy)
    return inputs


def run_artifact(artifact: Artifact, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """Outputs of the artifact in the model's own shapes: whole sequences, any-time outputs last."""
    session = artifact.session()
    signature = artifact.signature
    used = {spec.name: inputs[spec.name] for spec in signature.inputs}
    if signature.mode == "call":
        return _by_name(session.call(used), signature)
    frames = {
        spec.name: to_frames(used[spec.name], spec.time_axis, spec.shape)
        for spec in signature.inputs
    }
    count = max((x.shape[0] for x in frames.values()), default=1)
    frames = {name: _held(x, count) for name, x in frames.items()}
    # Two pieces of unequal length: a step must equal a sequence however it is cut.
    cut = count // 3
    pieces = [
        _by_name(session.run({n: x[start:stop] for n, x in frames.items()}), signature)
        for start, stop in ((0, cut), (cut, count))
    ]
    rows = {
        spec.name: np.concatenate([piece[spec.name] for piece in pieces])
        for spec in signature.outputs
    }
    return {spec.name: to_sequence(rows[spec.name], spec) for spec in signature.outputs}


def to_frames(x: Array, time_axis: int | None, frame_shape: Sequence[int]) -> Array:
    """A model's input as (frames, *frame shape); one frame where it has no time axis."""
    if time_axis is None:
        return x.reshape(1, *frame_shape)
    moved = np.moveaxis(x, time_axis, 0)
    frames: Array = np.ascontiguousarray(moved).reshape(moved.shape[0], *frame_shape)
    return frames


def to_sequence(rows: Array, spec: TensorSpec) -> Array:
    """Frames (n, *frame shape) in the model's own shape; the last one where it is any-time."""
    if spec.time_axis is None:
        last: Array = rows[-1]
        return last.reshape(spec.model_shape)
    chunks: list[Array] = list(rows.reshape(rows.shape[0], *spec.model_shape))
    return np.concatenate(chunks, axis=spec.time_axis)


def _held(x: Array, count: int) -> Array:
    return x if x.shape[0] == count else np.repeat(x, count, axis=0)


def _by_name(result: Any, signature: Signature) -> dict[str, Array]:
    if isinstance(result, dict):
        return {name: np.array(value) for name, value in result.items()}
    return {signature.outputs[0].name: np.array(result)}


def _expected(
    oracle: Oracle, inputs: Mapping[str, Array], length: int | None, binding: Binding
) -> Expected:
    try:
        return oracle.run(inputs)
    except EdgeLSTMError as error:
        if length is None:
            raise
        traced = next(
            (binding.shapes[name][axis] for name, axis in binding.free_time), "another length"
        )
        raise MismatchError(
            f"the model says that its time is free, but fails at {length} frames (it was read at "
            f"{traced}): {error}. A length was baked in when it was exported: give the shape it "
            "was traced with by --shape, or export it again with dynamic axes"
        ) from error


def _sequence_lens(binding: Binding) -> dict[str, int]:
    """Inputs that are sequence_lens of a recurrent layer, with that layer's number of frames."""
    found: dict[str, int] = {}
    for node in binding.graph.nodes:
        if not isinstance(node.op, Recurrent) or len(node.inputs) <= SEQUENCE_LENS:
            continue
        value, frames = node.inputs[SEQUENCE_LENS], node.inputs[0]
        if value is not None and frames is not None:
            found[value.name] = min(found.get(value.name, 1 << 30), frames.type.shape[0])
    return found
