"""Known inputs and outputs, step by step, for self-tests and for the validation of devices."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgelstm.artifact import Artifact
from edgelstm.errors import (
    ArtifactFormatError,
    EdgeLSTMError,
    InternalError,
    StreamError,
    TargetUnavailableError,
)
from edgelstm_compiler.c_export.integer_io import is_exact, to_numbers
from edgelstm_compiler.driver import compile_model
from edgelstm_compiler.emulation.kernel import emulate
from edgelstm_compiler.ir.types import Array
from edgelstm_compiler.known_steps import (
    STEPS,
    KnownSteps,
    recorded_steps,
    step_blocks,
    step_random,
    steps_to_tell,
)
from edgelstm_compiler.onnx_import.read import read_model
from edgelstm_compiler.quant.embedded import SECTION, expect_recipe, unpack_calibration
from edgelstm_compiler.quant.scheme import QuantizeOptions
from edgelstm_compiler.streaming.modes import compile_mode
from edgelstm_compiler.verification import as_compiled, fixed_constants

TOLERANCE = 1e-5
"""Largest difference of a float, relative to its magnitude where that exceeds 1."""


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
        steps: how many at most (call mode: one; windows: at least until the second answer).
        model: the ONNX model, evaluated in NumPy for the outputs (quantized as the artifact is);
            None: what the artifact recorded of itself, or where that is not enough, the artifact's
            code on an emulated processor. It is never executed by this machine's own.

    Raises:
        TargetUnavailableError: nothing was recorded or it is not enough, the artifact does not run
            emulated, and no model is given.
        ModelError: it was made from another model.
        StreamError: an output is NaN or infinite on the recording, or on whatever is drawn: every
            sound device would fail such a self-test.
    """
    tolerance = tolerance_of(artifact)
    source = "seeded random input" if frames is None else "a recording"
    recorded = recorded_steps(artifact) if frames is None and model is None else None
    steps = steps_to_tell(artifact.signature, steps)
    if recorded is not None and steps <= steps_to_tell(artifact.signature, STEPS):
        known = recorded.first(steps)
        origin = "the reference engine computed them when the model was compiled"
        return Golden(known.inputs, known.outputs, known.steps, f"{source}, as {origin}", tolerance)
    teller, name = _teller(artifact, model)
    try:
        known = _known_steps(artifact, teller, frames, steps)
    except InternalError as exc:
        if teller.runs_as["engine"] in ("reference", "native", "cuda"):
            raise
        raise ArtifactFormatError(
            f"the artifact's own code fails on the emulated processor ({exc}): its sizes are not "
            "those that its manifest says; compile the model again"
        ) from exc
    origin = f"{source}, as {name} computes them"
    return Golden(known.inputs, known.outputs, known.steps, origin, tolerance)


def _known_steps(
    artifact: Artifact, teller: Artifact, frames: Mapping[str, Array] | None, steps: int
) -> KnownSteps:
    if frames is None:
        return step_random(artifact, teller, steps)
    known = step_blocks(teller, to_numbers(artifact, frames), steps)
    plan = artifact.signature.window
    if plan is not None and len(next(iter(frames.values()))) < plan.frames:
        raise StreamError(
            f"a window has {plan.frames} frames, and the recording fewer: no answer would be "
            "compared; give a recording of at least one window"
        )
    if isinstance(known, str):
        raise StreamError(
            f"the recording gives no known outputs for a self-test: {known}; give another "
            "recording by --input, or fewer --steps"
        )
    return known


def tolerance_of(artifact: Artifact) -> float:
    """How far outputs of the same model may lie apart on two machines, see `Golden`.

    Integers must be equal. Where values are quantized between layers in float32, the same one
    may be rounded either way: there it is what the self-check allowed.
    """
    if is_exact(artifact):
        return 0.0
    if "quantization" not in artifact.manifest:
        return TOLERANCE
    return max(TOLERANCE, float(artifact.manifest["check"].get("tolerance") or 0.0))


def _teller(artifact: Artifact, model: Path | None) -> tuple[Artifact, str]:
    """Who computes the outputs; never the artifact's code on this machine's own processor."""
    if model is not None:
        return _reference(artifact, model), "NumPy"
    if artifact.manifest["target"]["engine"] == "reference":
        return artifact, "NumPy"
    try:
        return emulate(artifact, host_too=True), "the compiled code on an emulated processor"
    except TargetUnavailableError as error:
        raise TargetUnavailableError(
            f"no known outputs for the self-test: {error}. Exporting executes no code of an "
            "artifact on this machine; give the ONNX model by --model"
        ) from error


def _reference(artifact: Artifact, model: Path) -> Artifact:
    """The same model for NumPy, quantized in the same way.

    Raises:
        ModelError: it was made from another model.
        ArtifactFormatError: the record of its quantization cannot be read.
    """
    as_compiled(artifact, read_model(model))
    signature = artifact.signature
    asked = artifact.manifest["options"]
    given, overlap = asked.get("shapes", {}), asked.get("overlap")
    shapes = compile_mode(signature.mode).shapes_of(signature, given)
    constants = fixed_constants(artifact)
    quantization: dict[str, Any] = {}
    record = artifact.manifest.get("quantization")
    if record is not None:
        expect_recipe(record)
        sections = artifact.container.sections
        try:
            quantization = {
                "quantize": {layer["name"]: layer["scheme"] for layer in record["layers"]},
                "quantize_options": QuantizeOptions.from_json(record["options"]),
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
        window=asked.get("window"),
        hop=asked.get("hop"),
        carry_across_windows=bool(asked.get("carry_across_windows")),
        smooth=asked.get("smooth"),
        shapes=shapes,
        constants=constants,
        carry=asked.get("carry") or (None if overlap else False),
        overlap=overlap,
        check=False,
        **quantization,
    )
