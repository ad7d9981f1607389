"""Known inputs and outputs, step by step, for the self-test of an exported model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgelstm.artifact import Artifact
from edgelstm.errors import TargetUnavailableError
from edgelstm.signature import TensorSpec
from edgelstm_compiler.driver import compile_model
from edgelstm_compiler.emulation.kernel import emulate
from edgelstm_compiler.ir.types import Array
from edgelstm_compiler.onnx_import.read import read_model
from edgelstm_compiler.verification import expect_same_model, random_call, random_frames

TOLERANCE = 1e-5
"""Largest difference of a float, relative to its magnitude where that exceeds 1."""


@dataclass(frozen=True, slots=True)
class Golden:
    """Input and output blocks of steps from a fresh state, one after another."""

    inputs: bytes
    outputs: bytes
    steps: int
    origin: str


def record_golden(
    artifact: Artifact, frames: Mapping[str, Array] | None, steps: int, model: Path | None
) -> Golden:
    """Step through a model and keep what it says.

    Args:
        artifact: the model.
        frames: input by name, (n, *frame); None: seeded random input.
        steps: how many at most (call mode: one).
        model: the ONNX model, evaluated in NumPy for the outputs; None: the artifact runs itself,
            here or on an emulated processor.

    Raises:
        TargetUnavailableError: the artifact runs neither here nor emulated, and no model is given.
        ModelError: it was made from another model.
    """
    signature = artifact.signature
    is_stream = signature.mode == "stream"
    source = "seeded random input" if frames is None else "a recording"
    if frames is None:
        if is_stream:
            frames = random_frames(artifact, steps)
        else:
            frames = {name: x[None] for name, x in random_call(artifact).items()}
    count = min(steps, min(len(x) for x in frames.values())) if is_stream else 1
    teller, origin = _teller(artifact, model)
    session = teller.session()
    inputs = np.zeros((count, signature.input_bytes), np.uint8)
    outputs = np.zeros((count, signature.output_bytes), np.uint8)
    for step in range(count):
        frame = {spec.name: frames[spec.name][step] for spec in signature.inputs}
        result = session.step(frame) if is_stream else session.call(frame)
        if not isinstance(result, dict):
            result = {signature.outputs[0].name: result}
        for spec in signature.inputs:
            _put(inputs[step], spec, frame[spec.name])
        for spec in signature.outputs:
            _put(outputs[step], spec, result[spec.name])
    return Golden(
        inputs.tobytes(), outputs.tobytes(), count, f"{source}, as {origin} computes them"
    )


def _teller(artifact: Artifact, model: Path | None) -> tuple[Artifact, str]:
    """An artifact that runs here, and who it is."""
    signature = artifact.signature
    if model is not None:
        expect_same_model(artifact, read_model(model))
        shapes = {spec.name: spec.model_shape for spec in signature.inputs}
        reference = compile_model(
            model,
            target="reference",
            mode=signature.mode,
            shapes=shapes if signature.mode == "call" else None,
            check=False,
        )
        return reference, "NumPy"
    try:
        return artifact.on(artifact.kernel), "the compiled code on the host"
    except TargetUnavailableError as exc:
        try:
            return emulate(artifact), "the compiled code on an emulated processor"
        except TargetUnavailableError as error:
            raise TargetUnavailableError(
                f"no known outputs for the self-test: {error}; or give the ONNX model by --model"
            ) from exc


def _put(block: NDArray[np.uint8], spec: TensorSpec, value: Array) -> None:
    raw = np.ascontiguousarray(value, spec.dtype.numpy).reshape(-1).view(np.uint8)
    block[spec.offset_bytes : spec.offset_bytes + spec.nbytes] = raw
