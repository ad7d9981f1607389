"""Compares an artifact with its model step by step, on a recording or on random input."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgelstm.artifact import Artifact
from edgelstm.errors import ModelError, StreamError
from edgelstm.session import Session
from edgelstm.signature import TensorSpec
from edgelstm_compiler.ir.types import Array
from edgelstm_compiler.onnx_import.read import OnnxModel
from edgelstm_compiler.selfcheck import Oracle, to_sequence

PREFIXES = 12
"""How many prefixes of a sequence are computed anew for an any-time output."""


@dataclass(frozen=True, slots=True)
class OutputReport:
    """How far one output is from the model's.

    Args:
        name: of the output.
        compared: elements compared.
        max_error: largest absolute difference.
        mean_error: mean absolute difference.
        limit: the tolerance, scaled by the largest expected magnitude where that exceeds 1.
        first_beyond: first step (call: 0) with an error beyond the limit, or None.
    """

    name: str
    compared: int
    max_error: float
    mean_error: float
    limit: float
    first_beyond: int | None

    @property
    def passed(self) -> bool:
        """Whether every element is within the limit."""
        return self.first_beyond is None and self.compared > 0


@dataclass(frozen=True, slots=True)
class Verification:
    """The comparison of all outputs."""

    against: str
    steps: int
    outputs: tuple[OutputReport, ...]

    @property
    def passed(self) -> bool:
        """Whether every output is within its limit."""
        return all(output.passed for output in self.outputs)

    def to_json(self) -> dict[str, Any]:
        """A JSON object."""
        return {
            "passed": self.passed,
            "against": self.against,
            "steps": self.steps,
            "outputs": [
                {
                    "name": output.name,
                    "passed": output.passed,
                    "compared": output.compared,
                    "max_error": output.max_error,
                    "mean_error": output.mean_error,
                    "limit": output.limit,
                    "first_beyond": output.first_beyond,
                }
                for output in self.outputs
            ],
        }


def expect_same_model(artifact: Artifact, model: OnnxModel) -> None:
    """Refuse a model that the artifact was not made from.

    Raises:
        ModelError: the hashes differ.
    """
    made_from = str(artifact.manifest["source"]["sha256"])
    if made_from != model.sha256:
        raise ModelError(
            f"the artifact was compiled from another model (SHA-256 {made_from[:12]}..., this one "
            f"is {model.sha256[:12]}...): give the model it was compiled from, or compile it again"
        )


def verify_call(
    artifact: Artifact, model: OnnxModel, inputs: Mapping[str, Array], tolerance: float
) -> Verification:
    """One call beside the model on the same input."""
    expected = Oracle(model).run(inputs)
    result = artifact.session().call(dict(inputs))
    actual = result if isinstance(result, dict) else {artifact.signature.outputs[0].name: result}
    reports = tuple(
        compare_rows(
            spec.name, actual[spec.name][None], expected.outputs[spec.name][None], tolerance
        )
        for spec in artifact.signature.outputs
    )
    return Verification(expected.against, 1, reports)


def verify_stream(
    artifact: Artifact, model: OnnxModel, frames: Mapping[str, Array], tolerance: float
) -> Verification:
    """A stream, stepped frame by frame, beside the model over the whole sequence.

    A model of one fixed length is compared over windows of that length, from fresh states each.
    An any-time output is compared at up to `PREFIXES` lengths of the sequence.

    Args:
        artifact: compiled for streams.
        model: what it was compiled from.
        frames: for each input (n, *frame shape).
        tolerance: largest error, see `OutputReport.limit`.

    Raises:
        StreamError: fewer frames than the model's fixed length.
    """
    oracle = Oracle(model)
    specs = artifact.signature.inputs
    total = next(iter(frames.values())).shape[0]
    window = fixed_length(model, artifact) or total
    if total < window:
        raise StreamError(
            f"the model takes windows of exactly {window} frames, the input has {total}"
        )
    actual: dict[str, list[Array]] = {spec.name: [] for spec in artifact.signature.outputs}
    wanted: dict[str, list[Array]] = {spec.name: [] for spec in artifact.signature.outputs}
    steps: dict[str, list[int]] = {spec.name: [] for spec in artifact.signature.outputs}
    against = ""
    for start in range(0, total - window + 1, window):
        block = {name: x[start : start + window] for name, x in frames.items()}
        rows = step_through(artifact.session(), block, window)
        for length in prefix_lengths(artifact, window, is_free=window == total):
            inputs = {spec.name: to_sequence(block[spec.name][:length], spec) for spec in specs}
            expected = oracle.run(inputs)
            against = expected.against
            for spec in artifact.signature.outputs:
                whole = expected.outputs[spec.name]
                if spec.time_axis is None:
                    chosen = [length - 1]
                    values = whole.reshape(1, *spec.shape)
                elif length == window:
                    chosen = list(range(length))
                    values = _frames_of(whole, spec)
                else:
                    continue
                actual[spec.name].append(rows[spec.name][chosen])
                wanted[spec.name].append(values)
                steps[spec.name] += [start + step for step in chosen]
    reports = tuple(
        compare_rows(
            spec.name,
            np.concatenate(actual[spec.name]),
            np.concatenate(wanted[spec.name]),
            tolerance,
            steps[spec.name],
        )
        for spec in artifact.signature.outputs
    )
    return Verification(against, total, reports)


def step_through(session: Session, frames: Mapping[str, Array], count: int) -> dict[str, Array]:
    """Every output of every step, (n, *frame shape), through `session.step`."""
    outputs = session.signature.outputs
    rows = {spec.name: np.empty((count, *spec.shape), spec.dtype.numpy) for spec in outputs}
    names = [spec.name for spec in session.signature.inputs]
    for index in range(count):
        frame: Any = {name: frames[name][index] for name in names}
        result = session.step(frame if len(names) > 1 else frame[names[0]])
        for spec in outputs:
            rows[spec.name][index] = result[spec.name] if isinstance(result, dict) else result
    return rows


def fixed_length(model: OnnxModel, artifact: Artifact) -> int | None:
    """The number of frames that the model takes, or None where it is free."""
    infos = {info.name: info for info in model.inputs}
    for spec in artifact.signature.inputs:
        dims = infos[spec.name].dims
        if spec.time_axis is not None and dims is not None:
            extent = dims[spec.time_axis]
            if isinstance(extent, int):
                return extent
    return None


def prefix_lengths(artifact: Artifact, window: int, *, is_free: bool) -> list[int]:
    """Lengths at which the model is evaluated: the whole window, and prefixes if needed."""
    any_time = any(spec.time_axis is None for spec in artifact.signature.outputs)
    if not (any_time and is_free):
        return [window]
    spread = np.linspace(1, window, min(window, PREFIXES)).round().astype(int)
    return sorted({int(length) for length in spread})


def random_frames(artifact: Artifact, count: int, seed: int = 0) -> dict[str, Array]:
    """Seeded frames for every input: smooth random walks, as sensors give them."""
    rng = np.random.default_rng(seed)
    frames: dict[str, Array] = {}
    for spec in artifact.signature.inputs:
        if spec.dtype.is_float:
            noise = rng.standard_normal((count, *spec.shape))
            walk = np.cumsum(noise, axis=0) * 0.1
            frames[spec.name] = (np.sin(walk) + 0.1 * noise).astype(spec.dtype.numpy)
        else:
            frames[spec.name] = rng.integers(0, 2, (count, *spec.shape)).astype(spec.dtype.numpy)
    return frames


def _frames_of(whole: Array, spec: TensorSpec) -> Array:
    assert spec.time_axis is not None
    moved = np.moveaxis(whole, spec.time_axis, 0)
    return np.ascontiguousarray(moved).reshape(moved.shape[0], *spec.shape)


def compare_rows(
    name: str, actual: Array, expected: Array, tolerance: float, steps: list[int] | None = None
) -> OutputReport:
    """Compare the rows of one output; `steps` are their numbers where they are not 0, 1, 2...

    The limit is the tolerance, times the largest expected magnitude where that exceeds 1.
    """
    wanted = expected.astype(np.float64)
    difference = np.abs(actual.astype(np.float64) - wanted)
    limit = tolerance * max(1.0, float(np.max(np.abs(wanted), initial=0.0)))
    beyond = ~(difference <= limit).reshape(len(difference), -1).all(axis=1)
    first = int(np.argmax(beyond)) if beyond.any() else None
    if first is not None and steps is not None:
        first = steps[first]
    return OutputReport(
        name=name,
        compared=int(difference.size),
        max_error=float(np.max(difference, initial=0.0)),
        mean_error=float(np.mean(difference)) if difference.size else 0.0,
        limit=limit,
        first_beyond=first,
    )


def random_call(artifact: Artifact, seed: int = 0) -> dict[str, Array]:
    """Seeded input for a call: standard normal floats, small integers that are valid lengths."""
    rng = np.random.default_rng(seed)
    return {
        spec.name: (
            rng.standard_normal(spec.shape).astype(spec.dtype.numpy)
            if spec.dtype.is_float
            else np.ones(spec.shape, spec.dtype.numpy)
        )
        for spec in artifact.signature.inputs
    }
