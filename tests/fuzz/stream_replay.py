"""A recording through a compiled stream in random chunks and to its end, beside ONNX Runtime."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as capi

from edgelstm.artifact import Artifact
from edgelstm.errors import ModelError
from edgelstm.sessions.due import row_of_prefix
from edgelstm.signature import Signature, TensorSpec
from edgelstm_compiler.onnx_import.importer import import_graph
from edgelstm_compiler.onnx_import.read import read_model

Array = Any

RUNTIME_ERRORS = (RuntimeError, ValueError, capi.InvalidArgument, capi.RuntimeException, capi.Fail)
"""What ONNX Runtime raises where it does not take a recording."""


def expected_outputs(model: onnx.ModelProto, x: Array) -> dict[str, Array] | None:
    """What the sequence model gives; None where it takes no recording of this length.

    That is asked first: ONNX Runtime 1.32 may abort where a kernel is longer than its input.
    """
    try:
        import_graph(read_model(model), {"x": x.shape})
    except ModelError:
        return None
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 4, 1
    try:
        session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        names = [item.name for item in session.get_outputs()]
        return dict(zip(names, session.run(None, {"x": x}), strict=True))
    except RUNTIME_ERRORS:
        return None


def recording(model: onnx.ModelProto, frames: int, seed: int) -> Array:
    """Standard normal input (1, channels, frames)."""
    channels = model.graph.input[0].type.tensor_type.shape.dim[1].dim_value
    rng = np.random.default_rng(seed)
    return rng.standard_normal((1, channels, frames)).astype(np.float32)


def frames_of(signature: Signature, x: Array) -> Array:
    """The same frame by frame."""
    return np.ascontiguousarray(np.moveaxis(x, 2, 0)).reshape(-1, *signature.inputs[0].shape)


def replay(artifact: Artifact, x: Array, seed: int, *, is_ended: bool = True) -> dict[str, Array]:
    """All rows of all outputs, by `step` and by `run` in turn."""
    rng = np.random.default_rng(seed)
    signature, frames = artifact.signature, frames_of(artifact.signature, x)
    rows: dict[str, list[Array]] = defaultdict(list)
    with artifact.session() as session:
        at = 0
        while at < len(frames):
            count = min(int(rng.integers(1, 7)), len(frames) - at)
            if count == 1:
                for name, row in _by_name(signature, session.step(frames[at])).items():
                    rows[name] += [] if row is None else [np.array(row)[None]]
            else:
                found = _by_name(signature, session.run(frames[at : at + count]))
                for name, block in found.items():
                    rows[name].append(block)
            at += count
        if is_ended:
            for name, block in _by_name(signature, session.finish()).items():
                rows[name].append(block)
    return {
        spec.name: np.concatenate([np.empty((0, *spec.shape), spec.dtype.numpy), *rows[spec.name]])
        for spec in signature.outputs
    }


def rows_of_model(whole: Array, spec: TensorSpec) -> Array:
    """A sequence model's output, one row after another; of an any-time output its only row."""
    if spec.time_axis is None:
        return whole.reshape(1, *spec.shape)
    moved = np.moveaxis(whole, spec.time_axis, 0)
    return moved.reshape(len(moved), *spec.shape)


def expect_equal(artifact: Artifact, model: onnx.ModelProto, frames: int, seed: int) -> int:
    """Compare the whole stream with the sequence; how many rows there were.

    An any-time output is compared at the end, and at a prefix where nothing looks ahead.
    """
    x = recording(model, frames, seed)
    wanted = expected_outputs(model, x)
    if wanted is None:
        return 0
    found = replay(artifact, x, seed)
    compared = 0
    for spec in artifact.signature.outputs:
        rows, expected = found[spec.name], rows_of_model(wanted[spec.name], spec)
        if spec.time_axis is None:
            prefix = row_of_prefix(spec, frames // 2)
            shorter = expected_outputs(model, x[:, :, : frames // 2]) if prefix >= 0 else None
            if shorter is not None:
                _expect_close(rows[[prefix]], rows_of_model(shorter[spec.name], spec), spec)
            rows = rows[-1:]
        _expect_close(rows, expected, spec)
        compared += len(rows)
    return compared


def _expect_close(rows: Array, expected: Array, spec: TensorSpec) -> None:
    assert rows.shape == expected.shape, spec
    np.testing.assert_allclose(rows, expected, 1e-4, 1e-5, err_msg=str(spec))


def _by_name(signature: Signature, result: Any) -> Mapping[str, Array]:
    return result if isinstance(result, dict) else {signature.outputs[0].name: result}
