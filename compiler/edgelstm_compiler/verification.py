"""Compares an artifact with its model step by step, on a recording or on random input."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgelstm.artifact import Artifact
from edgelstm.errors import MismatchError, ModelError, StreamError
from edgelstm.sessions.due import row_of_prefix
from edgelstm.signature import TensorSpec
from edgelstm_compiler.binding import bounded
from edgelstm_compiler.check_inputs import Domain, default_domain
from edgelstm_compiler.comparison import (
    OURS,
    PEERS,
    TOLERANCE,
    absolute_error,
    relative_error,
    scale_of,
)
from edgelstm_compiler.ir.types import Array
from edgelstm_compiler.onnx_import.fixed_inputs import fix_inputs
from edgelstm_compiler.onnx_import.read import OnnxModel
from edgelstm_compiler.selfcheck import Oracle
from edgelstm_compiler.session_rows import joined, rows_behind, run_pieces, to_sequence

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


def as_compiled(artifact: Artifact, model: OnnxModel) -> OnnxModel:
    """The model that an artifact was made from, with what its compilation asked of it.

    Inputs are fixed, and attention is bounded.

    Raises:
        ModelError: another model, or one whose fixed inputs the artifact does not hold.
    """
    made_from = str(artifact.manifest["source"]["sha256"])
    if made_from != model.sha256:
        raise ModelError(
            f"the artifact was compiled from another model (SHA-256 {made_from[:12]}..., this one "
            f"is {model.sha256[:12]}...): give the model it was compiled from, or compile it again"
        )
    model = with_fixed_inputs(artifact, model)
    options = artifact.manifest["options"]
    context = options.get("attention_context")
    return model if context is None else bounded(model, context, options.get("shapes", {}))


def with_fixed_inputs(artifact: Artifact, model: OnnxModel) -> OnnxModel:
    """The model with the inputs fixed that a compilation fixed, and else as the file has it.

    Raises:
        ModelError: fixed inputs that the artifact does not hold.
    """
    free = {item.name for item in model.inputs}
    constants = fixed_constants(artifact)
    return fix_inputs(model, {name: constants[name] for name in constants.keys() & free})


def fixed_constants(artifact: Artifact) -> dict[str, Any]:
    """The inputs that the compilation fixed, by name.

    Raises:
        ModelError: an array so large that the artifact holds its digest alone.
    """
    constants = dict(artifact.manifest["options"].get("constants", {}))
    large = [name for name, value in constants.items() if isinstance(value, str)]
    if large:
        raise ModelError(
            f"the artifact was compiled with --set {large[0]}=FILE, and does not hold that array: "
            "store it in the ONNX model as an initializer to compare with it"
        )
    return constants


def verify_call(
    artifact: Artifact,
    model: OnnxModel,
    inputs: Mapping[str, Array],
    tolerance: float | None = None,
) -> Verification:
    """One call beside the model on the same input; see `verify_stream` for the tolerance."""
    oracle = Oracle(model)
    expected = oracle.run(inputs)
    result = artifact.session().call(dict(inputs))
    actual = result if isinstance(result, dict) else {artifact.signature.outputs[0].name: result}
    pieces = [
        Piece(spec.name, actual[spec.name][None], expected.outputs[spec.name][None], inputs, [0])
        for spec in artifact.signature.outputs
    ]
    decider = _Decider(oracle, lambda name, exact, piece: exact[name][None])
    return _judged(expected.against, 1, pieces, tolerance, decider)


def verify_stream(
    artifact: Artifact,
    model: OnnxModel,
    frames: Mapping[str, Array],
    tolerance: float | None = None,
) -> Verification:
    """A stream, fed in random chunks and to its end, beside the model over the whole sequence.

    Rows that come later than their frame, by the delay that the signature tells, are compared with
    the model's row of that frame.

    A model of one fixed length is compared over windows of that length, from fresh states each.
    An any-time output is compared at up to `PREFIXES` lengths of the sequence, where the length is
    free. Inputs without time keep the value of their first frame, as the model has it.

    Args:
        artifact: compiled for streams.
        model: what it was compiled from.
        frames: for each input (n, *frame shape).
        tolerance: largest error, see `OutputReport.limit`; None: `TOLERANCE`, and where the two
            differ by more, both are compared with float64 (`comparison.judge`).

    Raises:
        StreamError: fewer frames than the model's fixed length.
    """
    oracle = Oracle(model)
    specs = {spec.name: spec for spec in artifact.signature.inputs}
    signature, outputs = artifact.signature, artifact.signature.outputs
    total = next(iter(frames.values())).shape[0]
    fixed = fixed_length(model, artifact)
    window = total if fixed is None else fixed
    if total < window:
        raise StreamError(
            f"the model takes windows of exactly {window} frames, the input has {total}: give a "
            "recording of at least one window"
        )
    frames = {
        name: x if specs[name].time_axis is not None else np.repeat(x[:1], total, axis=0)
        for name, x in frames.items()
    }
    pieces: list[Piece] = []
    against = ""
    for start in range(0, total - window + 1, window):
        block = {name: x[start : start + window] for name, x in frames.items()}
        session, cuts = artifact.session(), random_cuts(window, start)
        rows = joined([run_pieces(session, block, window, cuts), rows_behind(session)], signature)
        for length in prefix_lengths(artifact, window, is_free=fixed is None):
            inputs = {name: to_sequence(block[name][:length], spec) for name, spec in specs.items()}
            try:
                expected = oracle.run(inputs)
            except ModelError:
                if length == window:
                    raise
                continue  # too short for the model
            against = expected.against
            for spec in outputs:
                if spec.time_axis is None:
                    last = len(rows[spec.name]) - 1
                    chosen = [last if length == window else row_of_prefix(spec, length)]
                elif length == window:
                    chosen = list(range(len(rows[spec.name])))
                else:
                    continue
                if min(chosen, default=0) < 0:
                    continue  # nothing is said yet
                wanted = _rows_of(expected.outputs[spec.name], spec)
                if len(wanted) != len(chosen):
                    raise MismatchError(
                        f"output {spec.name!r} has {len(chosen)} rows after {length} frames, the "
                        f"model has {len(wanted)}"
                    )
                steps = [start + step * spec.stride + spec.delay for step in chosen]
                pieces.append(Piece(spec.name, rows[spec.name][chosen], wanted, inputs, steps))
    by_name = {spec.name: spec for spec in outputs}
    decider = _Decider(oracle, lambda name, exact, piece: _rows_of(exact[name], by_name[name]))
    return _judged(against, total, pieces, tolerance, decider)


def random_cuts(frames: int, seed: int) -> list[int]:
    """Where a recording is cut into chunks of 1 to 40 frames."""
    rng = np.random.default_rng(seed)
    cuts, at = [], 0
    while at < frames:
        at += int(rng.choice((1, 1, 2, 3, 7, 40)))
        cuts.append(min(at, frames))
    return cuts


@dataclass(frozen=True, slots=True)
class Piece:
    """Rows of one output beside the model's on the same inputs, and their steps."""

    name: str
    actual: Array
    expected: Array
    inputs: Mapping[str, Array]
    steps: list[int]


@dataclass(frozen=True, slots=True)
class _Decider:
    """Float64 values and noise floors of pieces, where two float32 engines differ."""

    oracle: Oracle
    rows: Callable[[str, Mapping[str, Array], Piece], Array]

    def limit(self, pieces: Sequence[Piece], tolerance: float) -> tuple[list[Array], float]:
        """The float64 rows, and how far from them the artifact may be.

        The limit is 0 where the model in float32 is not what the float64 evaluation computes.
        """
        exact, distance, floor = [], 0.0, 0.0
        for piece in pieces:
            wanted = self.rows(piece.name, self.oracle.exact(piece.inputs).outputs, piece)
            exact.append(wanted)
            distance = max(distance, relative_error(piece.expected, wanted))
            floor = max(floor, self.oracle.noise(piece.inputs)[piece.name])
        is_sound = distance <= max(tolerance, PEERS * floor)
        return exact, max(tolerance, OURS * floor, distance) if is_sound else 0.0


def judge_pieces(
    oracle: Oracle,
    against: str,
    steps: int,
    pieces: Sequence[Piece],
    tolerance: float | None,
    rows: Callable[[str, Mapping[str, Array], Piece], Array],
) -> Verification:
    """The verdict on pieces of all outputs.

    Args:
        oracle: decides where two float32 engines differ.
        against: who said what is expected.
        steps: how many were made.
        pieces: what to compare.
        tolerance: see `verify_stream`.
        rows: the rows of an output, by name, of what the oracle gives exactly for a piece.
    """
    return _judged(against, steps, pieces, tolerance, _Decider(oracle, rows))


def _judged(
    against: str,
    steps: int,
    pieces: Sequence[Piece],
    tolerance: float | None,
    decider: _Decider,
) -> Verification:
    reports = []
    told = against
    for name in dict.fromkeys(piece.name for piece in pieces):
        mine = [piece for piece in pieces if piece.name == name]
        numbers = [step for piece in mine for step in piece.steps]
        actual = np.concatenate([piece.actual for piece in mine])
        expected = np.concatenate([piece.expected for piece in mine])
        allowed = TOLERANCE if tolerance is None else tolerance
        report = compare_rows(name, actual, expected, allowed, numbers)
        if not report.passed and tolerance is None:
            exact, limit = decider.limit(mine, allowed)
            if limit:
                report = compare_rows(name, actual, np.concatenate(exact), limit, numbers)
                told = f"{against}, and where it differs float64 within the noise of float32"
        reports.append(report)
    return Verification(told, steps, tuple(reports))


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


def random_frames(
    artifact: Artifact, count: int, seed: int = 0, domains: Mapping[str, Domain] | None = None
) -> dict[str, Array]:
    """Seeded frames for every input: smooth random walks, as sensors give them.

    Args:
        artifact: compiled for streams.
        count: how many frames.
        seed: of the random numbers.
        domains: what each input is drawn from; None: what the self-check found, see `domains_of`.
    """
    chosen = domains_of(artifact) if domains is None else domains
    rng = np.random.default_rng(seed)
    frames: dict[str, Array] = {}
    for spec in artifact.signature.inputs:
        noise = rng.standard_normal((count, *spec.shape))
        walk = np.sin(np.cumsum(noise, axis=0) * 0.1) + 0.1 * noise
        domain = chosen.get(spec.name, default_domain(spec.dtype))
        values = walk if spec.dtype.is_float else 1.5 * noise
        frames[spec.name] = domain.of(values, spec.dtype)
    return frames


def domains_of(artifact: Artifact) -> dict[str, Domain]:
    """From what the self-check drew each input of an artifact."""
    found = artifact.manifest.get("check", {}).get("domains") or {}
    return {str(name): Domain.parse(str(text)) for name, text in found.items()}


def _rows_of(whole: Array, spec: TensorSpec) -> Array:
    """A model's output as (frames, *frame shape); one row where it is any-time."""
    if spec.time_axis is None:
        return whole.reshape(1, *spec.shape)
    moved = np.moveaxis(whole, spec.time_axis, 0)
    return np.ascontiguousarray(moved).reshape(moved.shape[0], *spec.shape)


def compare_rows(
    name: str, actual: Array, expected: Array, tolerance: float, steps: list[int] | None = None
) -> OutputReport:
    """Compare the rows of one output; `steps` are their numbers where they are not 0, 1, 2...

    The limit is the tolerance, times the largest expected magnitude where that exceeds 1. NaN
    equals NaN, and infinities of one sign are equal.
    """
    difference = absolute_error(actual, expected)
    limit = tolerance * scale_of(expected)
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


def random_call(
    artifact: Artifact, seed: int = 0, domains: Mapping[str, Domain] | None = None
) -> dict[str, Array]:
    """Seeded input for a call: about standard normal floats, within the domain of the model."""
    chosen = domains_of(artifact) if domains is None else domains
    rng = np.random.default_rng(seed)
    inputs: dict[str, Array] = {}
    for spec in artifact.signature.inputs:
        domain = chosen.get(spec.name)
        if domain is None and not spec.dtype.is_float:
            inputs[spec.name] = np.ones(spec.shape, spec.dtype.numpy)
        else:
            noise = rng.standard_normal(spec.shape)
            inputs[spec.name] = (domain or default_domain(spec.dtype)).of(noise, spec.dtype)
    return inputs
