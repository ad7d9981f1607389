"""Known inputs and outputs, step by step, for self-tests and for the validation of devices."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgelstm.artifact import Artifact
from edgelstm.blocks import outputs_by_name, pack_inputs, pack_outputs
from edgelstm.errors import (
    ArtifactFormatError,
    EdgeLSTMError,
    StreamError,
    TargetUnavailableError,
)
from edgelstm_compiler.c_export.borders import borders, is_exact, to_numbers
from edgelstm_compiler.check_inputs import DOMAINS, ZERO, Domain
from edgelstm_compiler.driver import compile_model
from edgelstm_compiler.emulation.kernel import emulate
from edgelstm_compiler.ir.types import Array
from edgelstm_compiler.onnx_import.read import read_model
from edgelstm_compiler.quant.embedded import SECTION, expect_recipe, unpack_calibration
from edgelstm_compiler.quant.scheme import Observer, QuantizeOptions
from edgelstm_compiler.verification import (
    domains_of,
    expect_same_model,
    random_call,
    random_frames,
)

TOLERANCE = 1e-5
"""Largest difference of a float, relative to its magnitude where that exceeds 1."""

_QUARTER = 8192


@dataclass(frozen=True, slots=True)
class Golden:
    """Input and output blocks of steps from a fresh state, one after another.

    Args:
        inputs: the input blocks.
        outputs: the output blocks.
        steps: how many.
        origin: where they come from, in words.
        tolerance: largest difference of a float output, relative to its magnitude where that
            exceeds 1; 0: every bit must be equal.
    """

    inputs: bytes
    outputs: bytes
    steps: int
    origin: str
    tolerance: float = TOLERANCE


def record_golden(
    artifact: Artifact, frames: Mapping[str, Array] | None, steps: int, model: Path | None
) -> Golden:
    """Step through a model and keep what it says.

    Args:
        artifact: the model.
        frames: input by name, (n, *frame), in the model's units; None: seeded random input.
        steps: how many at most (call mode: one).
        model: the ONNX model, evaluated in NumPy for the outputs (quantized as the artifact is);
            None: the artifact runs itself, here or on an emulated processor.

    Raises:
        TargetUnavailableError: the artifact runs neither here nor emulated, and no model is given.
        ModelError: it was made from another model.
        StreamError: an output is NaN or infinite on the recording, or on whatever is drawn: every
            sound device would fail such a self-test.
    """
    teller, origin = _teller(artifact, model)
    source = "seeded random input" if frames is None else "a recording"
    if frames is not None:
        blocks = _step(teller, to_numbers(artifact, frames), steps)
        if isinstance(blocks, str):
            raise StreamError(
                f"the recording gives no known outputs for a self-test: {blocks}; give another "
                "recording by --input, or fewer --steps"
            )
    else:
        blocks = _step_random(artifact, teller, steps)
    inputs, outputs = blocks
    count = len(inputs)
    return Golden(
        b"".join(inputs),
        b"".join(outputs),
        count,
        f"{source}, as {origin} computes them",
        tolerance_of(artifact),
    )


def tolerance_of(artifact: Artifact) -> float:
    """How far outputs of the same model may lie apart on two machines, see `Golden`.

    Whole numbers must be equal. Where values are quantized between layers in float32, the same one
    may be rounded either way: there it is what the self-check allowed.
    """
    if is_exact(artifact):
        return 0.0
    if "quantization" not in artifact.manifest:
        return TOLERANCE
    return max(TOLERANCE, float(artifact.manifest["check"].get("tolerance") or 0.0))


_Blocks = tuple[list[bytes], list[bytes]]


def _step_random(artifact: Artifact, teller: Artifact, steps: int) -> _Blocks:
    """Input and output blocks for the first domain of inputs on which all outputs are finite.

    Raises:
        StreamError: there is none.
    """
    specs = artifact.signature.inputs
    kinds: list[dict[str, Domain]] = [domains_of(artifact)]
    kinds += [{spec.name: d for spec in specs if spec.dtype.is_float} for d in DOMAINS]
    whole = {spec.name: ZERO for spec in specs if not spec.dtype.is_float}
    kinds += [{**kind, **whole} for kind in kinds if whole]
    reason = ""
    for domains in kinds:
        blocks = _step(teller, _random(artifact, steps, domains), steps)
        if not isinstance(blocks, str):
            return blocks
        reason = reason or blocks
    raise StreamError(
        f"no known outputs for a self-test: on random input {reason}; give a recording that the "
        "model is defined on by --input FILE"
    )


def _step(teller: Artifact, given: Mapping[str, Array], steps: int) -> _Blocks | str:
    """Input and output blocks, or why these inputs are no good."""
    signature = teller.signature
    is_stream = signature.mode == "stream"
    count = min(steps, min(len(x) for x in given.values())) if is_stream else 1
    session = teller.session()
    inputs, outputs = [], []
    for step in range(count):
        frame: Any = {spec.name: given[spec.name][step] for spec in signature.inputs}
        try:
            result = session.step(frame) if is_stream else session.call(frame)
        except StreamError as error:
            return f"step {step} is refused: {error}"
        by_name = outputs_by_name(signature, result)
        for name, x in by_name.items():
            if np.issubdtype(x.dtype, np.floating) and not np.isfinite(x).all():
                return f"output {name!r} of step {step} is NaN or infinite"
        inputs.append(pack_inputs(signature, frame))
        outputs.append(pack_outputs(signature, by_name))
    return inputs, outputs


def _random(artifact: Artifact, steps: int, domains: Mapping[str, Domain]) -> dict[str, Array]:
    """Seeded input; at borders in whole numbers within the range that was calibrated."""
    if artifact.signature.mode == "stream":
        frames = random_frames(artifact, steps, domains=domains)
    else:
        frames = {name: x[None] for name, x in random_call(artifact, domains=domains).items()}
    rng = np.random.default_rng(1)
    for name in borders(artifact):
        if name in frames:
            noise = rng.standard_normal(frames[name].shape)
            walk = np.sin(0.1 * np.cumsum(noise, axis=0)) + 0.1 * noise
            frames[name] = np.clip(walk * _QUARTER, -32768, 32767).astype(np.int16)
    return frames


def _teller(artifact: Artifact, model: Path | None) -> tuple[Artifact, str]:
    """An artifact that runs here, and who it is."""
    if model is not None:
        return _reference(artifact, model), "NumPy"
    try:
        return artifact.on(artifact.kernel), "the compiled code on the host"
    except TargetUnavailableError as exc:
        try:
            return emulate(artifact), "the compiled code on an emulated processor"
        except TargetUnavailableError as error:
            raise TargetUnavailableError(
                f"no known outputs for the self-test: {error}; or give the ONNX model by --model"
            ) from exc


def _reference(artifact: Artifact, model: Path) -> Artifact:
    """The same model for NumPy, quantized in the same way.

    Raises:
        ModelError: it was made from another model.
        ArtifactFormatError: the record of its quantization cannot be read.
    """
    expect_same_model(artifact, read_model(model))
    signature = artifact.signature
    shapes = {spec.name: spec.model_shape for spec in signature.inputs}
    quantization: dict[str, Any] = {}
    record = artifact.manifest.get("quantization")
    if record is not None:
        expect_recipe(record)
        sections = artifact.container.sections
        try:
            options = {**record["options"], "observer": Observer(record["options"]["observer"])}
            quantization = {
                "quantize": {layer["name"]: layer["scheme"] for layer in record["layers"]},
                "quantize_options": QuantizeOptions(**options),
                "calibration": unpack_calibration(sections[SECTION])
                if SECTION in sections
                else None,
            }
        except EdgeLSTMError:
            raise
        except (KeyError, TypeError, ValueError) as error:
            raise ArtifactFormatError(
                f"the manifest's quantization record is malformed ({error}); compile again"
            ) from error
    return compile_model(
        model,
        target="reference",
        mode=signature.mode,
        shapes=shapes if signature.mode == "call" else None,
        check=False,
        **quantization,
    )
