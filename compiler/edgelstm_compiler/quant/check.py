"""The self-check of a quantized artifact: against the quantized step graph, not against the model.

Integers must be equal bit for bit. Where gates are computed in float32, an h that lies between two
int8 steps may be rounded either way: there the difference must stay well below what quantizing
itself costs, or be gone in few steps from equal states (`between_steps.py`: twice `TOLERANCE`, a
part for the artifact and one for the nudged graph that it may be on the side of).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import numpy as np

from edgelstm.artifact import Artifact
from edgelstm.dtypes import DType, is_floating
from edgelstm.errors import MismatchError
from edgelstm_compiler.check_inputs import (
    NOT_DEFINED,
    Domain,
    default_domain,
    draw_white,
    find_domains,
    types_of,
)
from edgelstm_compiler.comparison import absolute_error, own_error, relative_error, scale_of
from edgelstm_compiler.held_weights import run_held_weights
from edgelstm_compiler.ir.graph import StepGraph
from edgelstm_compiler.ir.types import Array
from edgelstm_compiler.quant.accuracy import measure
from edgelstm_compiler.quant.between_steps import differs_from_equal_states, rounds_values
from edgelstm_compiler.quant.model import QuantizedModel
from edgelstm_compiler.quant.replay import Recording, Replay, chunks, timed_inputs
from edgelstm_compiler.session_rows import read_states, run_pieces, step_through
from edgelstm_compiler.step_trace import open_heads

FRAMES = 64
TOLERANCE = 1e-5
MARGIN = 0.1
"""Largest difference of artifact and graph, over that of graph and float model."""

NOISE = 16.0
"""Largest difference of two float32 evaluations in NumPy, over that of rounded inputs."""

STATE_MARGIN = 0.02
"""Largest difference of a state, as a share of its range, where gates are in float32."""


def check_quantized(
    artifact: Artifact, model: QuantizedModel, recordings: Sequence[Recording] = ()
) -> dict[str, Any]:
    """Compare the artifact with the evaluated quantized step graph, by `step` and in pieces.

    Args:
        artifact: compiled, and able to run here.
        model: what it was compiled from.
        recordings: real input in floats, frames by input, in place of drawn one.

    Returns:
        JSON facts for the manifest: done, against, max_error, tolerance, lengths, inputs, and
        `distance`: the error measures of each output against the float graph. Where nothing can be
        compared done is False, and there is a reason.

    Raises:
        MismatchError: they differ; names the output or the state.
    """
    domains = _domains(model)
    recording, origin = _recorded(model, recordings), "a recording"
    if recording is None and domains is None:
        return {"done": False, "reason": NOT_DEFINED}
    if recording is None:
        recording, origin = calibrated_inputs(model, domains), "seeded random input"
    replay = Replay(model.graph)
    expected = replay.run(recording)
    exact = Replay(model.float_graph).run(_float_inputs(model, recording))
    steps = _steps(model.graph, recording)
    actual, stepped, states = _run(artifact, model.graph, recording, steps)
    distance = (
        {}
        if model.record["borders"]
        else {name: measure(exact[name], wanted).to_json() for name, wanted in expected.items()}
    )
    error, tolerance = 0.0, 0.0
    if not model.is_exact:
        noise = 0.0 if model.record["borders"] else _worst(exact, expected)
        tolerance = max(TOLERANCE, MARGIN * noise)
    is_one = all(own_error(actual[name], rows) <= TOLERANCE for name, rows in stepped.items())
    between = _Between(artifact, model, recording, is_one=is_one)
    for found in (actual, stepped):
        error = max(error, _worst(expected, found))
        if not error <= tolerance:
            name = max(expected, key=lambda key: relative_error(found[key], expected[key]))
            between.expect(f"output {name!r}", error, tolerance)
    for name, (run, step) in {
        **{name: (actual[name], rows) for name, rows in stepped.items()},
        **states,
    }.items():
        off = own_error(run, step)
        if not off <= TOLERANCE:
            raise MismatchError(
                f"self-check: {name!r} differs from itself by {off:.3g}: run in pieces is not step"
            )
    for name, (_, state) in states.items():
        wanted = replay.states[name].reshape(state.shape)
        # A float32 gate between two steps may be rounded either way, and h carries it on.
        off = _state_error(state, wanted)
        allowed = 0.0 if model.is_exact else max(tolerance, STATE_MARGIN)
        if not off <= allowed:
            between.expect(f"state {name!r}", off, allowed)
    _check_heads(artifact, model, recording, steps)
    return {
        "done": True,
        "against": "quantized step graph",
        "max_error": float(f"{error:.3g}"),
        "tolerance": float(f"{tolerance:.3g}"),
        "lengths": [steps] if timed_inputs(model.graph) else [],
        "inputs": origin,
        "domains": {name: str(domain) for name, domain in (domains or {}).items()},
        "distance": distance,
        **({"between_steps": True} if between.is_shown else {}),
    }


class _Between:
    """Whether rounding of values between two steps explains what differs; asked at most once."""

    def __init__(
        self, artifact: Artifact, model: QuantizedModel, recording: Recording, *, is_one: bool
    ) -> None:
        self._given = (artifact, model.graph, recording, TOLERANCE)
        self._is_possible = is_one and bool(model.graph.states) and rounds_values(model.graph)
        self.is_shown = False

    def expect(self, what: str, error: float, tolerance: float) -> None:
        """It does.

        Raises:
            MismatchError: it cannot, or from equal states something differs too.
        """
        if self.is_shown:
            return
        why = differs_from_equal_states(*self._given) if self._is_possible else ""
        if why is not None:
            _fail(what, error, tolerance, why)
        self.is_shown = True


def calibrated_inputs(
    model: QuantizedModel, domains: Mapping[str, Domain] | None = None
) -> dict[str, Array]:
    """Seeded smooth input within the calibrated ranges, or within the domain of the model."""
    rng = np.random.default_rng(7)
    inputs: dict[str, Array] = {}
    integer_tensors = {tensor["name"]: tensor for tensor in model.record["borders"]}
    for item in model.graph.inputs:
        shape, dtype = item.value.type.shape, item.value.type.dtype
        timed = item.time_axis is not None
        count = FRAMES if timed else 1
        noise = rng.standard_normal((count, *shape))
        walk = np.tanh(0.5 * np.cumsum(noise, axis=0) / np.sqrt(8.0) + 0.2 * noise)
        name = item.value.name
        domain = (domains or {}).get(name, default_domain(dtype))
        values = 2.0 * walk if domain.kind == "any" else domain.of(2.0 * walk, DType.F64)
        if model.calibration is not None and name in model.calibration.values:
            found = model.calibration.values[name]
            values = found.mean + walk * (found.high - found.low) / 2
            values = np.clip(values, found.low, found.high)
        if name in integer_tensors:
            scale = np.asarray(integer_tensors[name]["scale"])
            offset = np.asarray(integer_tensors[name]["offset"] or 0.0)
            values = np.clip(np.rint((values - offset) / scale), -32768, 32767)
        elif not dtype.is_float:
            values = domain.of(1.5 * noise, dtype)
        data = values.astype(dtype.numpy)
        inputs[name] = data if timed else data[0]
    return inputs


def _float_inputs(model: QuantizedModel, recording: Recording) -> dict[str, Array]:
    integer_tensors = {tensor["name"]: tensor for tensor in model.record["borders"]}
    inputs = {}
    for name, data in recording.items():
        tensor = integer_tensors.get(name)
        if tensor is None:
            inputs[name] = data
        else:
            scale = np.asarray(tensor["scale"])
            offset = np.asarray(tensor["offset"] or 0.0)
            steps = data - tensor["zero_point"]
            inputs[name] = (steps * scale + offset).astype(np.float32)
    return inputs


def _domains(model: QuantizedModel) -> dict[str, Domain] | None:
    """On what the float graph is defined; within the calibrated ranges it is taken to be."""
    graph = model.float_graph
    calibrated = set(model.calibration.values) if model.calibration is not None else set()
    values = [item.value for item in graph.inputs]
    if all(value.type.dtype.is_float and value.name in calibrated for value in values):
        return {}
    types = types_of(graph)
    return find_domains(graph, lambda domains: draw_white(types, domains))


def _recorded(model: QuantizedModel, recordings: Sequence[Recording]) -> Recording | None:
    """The beginning of the longest recording, in integers where the input is one."""
    if not recordings:
        return None
    integer_tensors = {tensor["name"]: tensor for tensor in model.record["borders"]}
    timed = timed_inputs(model.graph)
    chosen = max(
        recordings, key=lambda recording: min((len(recording[n]) for n in timed), default=0)
    )
    found: dict[str, Array] = {}
    for name, data in chosen.items():
        x = np.asarray(data)[:FRAMES] if name in timed else np.asarray(data)
        tensor = integer_tensors.get(name)
        if tensor is not None:
            offset = np.asarray(tensor.get("offset") or 0.0)
            steps = np.rint((x - offset) / np.asarray(tensor["scale"])) + tensor["zero_point"]
            x = np.clip(steps, -32768, 32767).astype(np.int16)
        found[name] = x
    return found


def _steps(graph: StepGraph, recording: Recording) -> int:
    """Frames of the recording; 1 in calls."""
    return min((len(recording[name]) for name in timed_inputs(graph)), default=1)


def _run(
    artifact: Artifact, graph: StepGraph, recording: Recording, steps: int
) -> tuple[dict[str, Array], dict[str, Array], dict[str, tuple[Array, Array]]]:
    """The outputs in pieces and one at a time, and the states after each of them."""
    session, signature = artifact.session(), artifact.signature
    pieces = chunks(graph, recording)
    frames = {
        spec.name: np.stack([piece[spec.name] for piece in pieces]).reshape(steps, *spec.shape)
        for spec in signature.inputs
    }
    shapes = {out.name: out.value.type.shape for out in graph.outputs}
    single = artifact.session()
    whole, rows = (
        {name: x.reshape(len(x), *shapes[name]) for name, x in found.items()}
        for found in (run_pieces(session, frames, steps), step_through(single, frames, steps))
    )
    after = read_states(session)
    return whole, rows, {name: (after[name], x) for name, x in read_states(single).items()}


def _check_heads(
    artifact: Artifact, model: QuantizedModel, recording: Recording, steps: int
) -> None:
    """What stands before softmax and the like, with the weights that the artifact holds.

    Raises:
        MismatchError: they are not those of the quantized graph.
    """
    opened, heads = open_heads(model.graph)
    if not heads:
        return
    frames = chunks(model.graph, recording)[:steps]
    found = run_held_weights(artifact, model.graph, opened, frames)
    if found is None:
        return
    replay = Replay(opened)
    expected = replay.run(recording)
    errors = {
        name: _state_error(found[name], expected[name].reshape(found[name].shape)) for name in heads
    }
    if all(error <= TOLERANCE for error in errors.values()):
        return
    # Both are NumPy, with sums in another order: what that amounts to, rounded inputs show.
    rounded = [replay.run(_rounded(recording, seed)) for seed in (1, 2)]
    for name, error in errors.items():
        wanted = expected[name]
        noise = max(_state_error(run[name], wanted) for run in rounded)
        one_step = 0.0
        if np.issubdtype(wanted.dtype, np.integer) and not model.is_exact:
            one_step = 1.0 / float(np.iinfo(wanted.dtype).max)
        allowed = max(TOLERANCE, NOISE * noise, one_step)
        if not error <= allowed:
            _fail(f"{name!r}, with the weights that the artifact holds,", error, allowed)


def _rounded(recording: Recording, seed: int) -> Recording:
    """Floating point inputs as if their last bit had been rounded the other way."""
    rng = np.random.default_rng(seed)
    return {
        name: np.asarray(x) * (1 + 2.0**-23 * rng.choice((-1.0, 1.0), np.shape(x)))
        if is_floating(np.asarray(x).dtype)
        else x
        for name, x in recording.items()
    }


def _worst(expected: Mapping[str, Array], found: Mapping[str, Array]) -> float:
    """The largest error of any output relative to its largest magnitude; NaN equals NaN."""
    return max(
        (
            float(absolute_error(found[name], wanted).max(initial=0.0) / scale_of(wanted))
            for name, wanted in expected.items()
        ),
        default=0.0,
    )


def _state_error(found: Array, wanted: Array) -> float:
    """In shares of the largest magnitude; integers in shares of their range."""
    difference = float(absolute_error(found, wanted).max(initial=0.0))
    if np.issubdtype(wanted.dtype, np.integer):
        return difference / float(np.iinfo(wanted.dtype).max)
    return difference / scale_of(wanted)


def _fail(what: str, error: float, tolerance: float, why: str = "") -> NoReturn:
    also = f"; {why}" if why else ""
    raise MismatchError(
        f"self-check: {what} differs from the quantized step graph by {error:.3g} "
        f"(allowed {tolerance:.3g}{also}): the target does not compute what the scheme defines"
    )
