"""Runs what was compiled beside the model it came from, before anybody gets it.

Expected values come from ONNX Runtime if it is installed and takes the model, else from the float64
evaluation of the imported graph. Where time is free, two lengths are compared, any-time outputs at
several prefixes. The step graph in float64 says what every single frame must give, what stands
before the functions that saturate, and the states; it decides where two float32 engines differ.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from edgelstm.artifact import Artifact
from edgelstm.dtypes import DType, is_floating
from edgelstm.errors import EdgeLSTMError, MismatchError, StreamError
from edgelstm.sessions.due import due_rows, row_of_prefix
from edgelstm.signature import TensorSpec
from edgelstm_compiler.binding import Binding
from edgelstm_compiler.blame import first_divergence
from edgelstm_compiler.check_inputs import NOT_DEFINED
from edgelstm_compiler.comparison import (
    OURS,
    TOLERANCE,
    Verdict,
    judge,
    last_places,
    own_error,
    own_scale,
    relative_error,
    scale_of,
)
from edgelstm_compiler.held_weights import first_wrong_row, run_held_weights
from edgelstm_compiler.ir.evaluate import evaluate
from edgelstm_compiler.ir.graph import StepGraph
from edgelstm_compiler.ir.types import Array
from edgelstm_compiler.onnx_import.importer import import_graph
from edgelstm_compiler.onnx_import.peer import OnnxRuntimePeer, PeerUnavailableError
from edgelstm_compiler.onnx_import.read import OnnxModel
from edgelstm_compiler.session_rows import (
    frame_count,
    frames_of,
    joined,
    read_states,
    rows_behind,
    run_pieces,
    step_through,
    to_frames,
    to_sequence,
)
from edgelstm_compiler.step_trace import StepTrace, open_heads
from edgelstm_compiler.trial_inputs import choose_inputs

_WINDOWS = frozenset(("Conv", "MaxPool", "AveragePool", "LpPool"))

MOST_STEPS = 64
"""Frames of a long fixed window that are compared one by one."""

__all__ = ["TOLERANCE", "Expected", "Oracle", "check_artifact", "to_frames", "to_sequence"]


@dataclass(frozen=True, slots=True)
class Expected:
    """What the model computes on some input, and who said so."""

    outputs: Mapping[str, Array]
    against: str


class Oracle:
    """ONNX Runtime where it takes the model, else the float64 evaluation."""

    def __init__(self, model: OnnxModel) -> None:
        self._model = model
        self._has_windows = any(node.op_type in _WINDOWS for node in model.body.graph.node)
        self._peer: OnnxRuntimePeer | None = None
        # In half precision it rounds after every operator: float64 is the better judge.
        if OnnxRuntimePeer.available() and not model.is_half:
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
            self._expect_windows_to_fit(inputs)
            try:
                return Expected(self._peer.run(dict(inputs)), self._peer.version)
            except PeerUnavailableError:
                pass  # refuses an attribute (layout=1), or its own shapes: the evaluation decides
        return self.exact(inputs)

    def _expect_windows_to_fit(self, inputs: Mapping[str, Array]) -> None:
        """ONNX Runtime 1.32 aborts the process where a kernel is longer than what it moves over."""
        if self._has_windows:
            import_graph(self._model, {name: x.shape for name, x in inputs.items()})

    def exact(self, inputs: Mapping[str, Array]) -> Expected:
        """The model's outputs in float64."""
        return Expected(self._evaluate(inputs, DType.F64), "float64 evaluation")

    def noise(self, inputs: Mapping[str, Array]) -> dict[str, float]:
        """How far float32 arithmetic in NumPy puts each output from float64, see `judge`."""
        exact, found = self.exact(inputs).outputs, self._evaluate(inputs, None)
        return {name: relative_error(x, exact[name]) for name, x in found.items()}

    def _evaluate(self, inputs: Mapping[str, Array], dtype: DType | None) -> dict[str, Array]:
        graph = import_graph(self._model, {name: x.shape for name, x in inputs.items()})
        used = {value.name for value in graph.inputs}
        given = {name: x for name, x in inputs.items() if name in used}
        with np.errstate(all="ignore"):
            return evaluate(graph, given, dtype=dtype).outputs


@dataclass(slots=True)
class _Findings:
    """The largest error so far, and who said so."""

    worst: float = 0.0
    against: str = ""
    limit: float = TOLERANCE
    last_place: dict[str, float] = field(default_factory=dict)

    def add_last_place(self, name: str, found: Array, exact: Array) -> None:
        """Keep how many units of its type's last place an output is from float64."""
        units = last_places(found, exact)
        self.last_place[name] = max(self.last_place.get(name, 0.0), units)

    def add(self, verdict: Verdict) -> None:
        """Keep the largest error and the largest limit."""
        if np.isfinite(verdict.error):
            self.worst = max(self.worst, verdict.error)
        self.limit = max(self.limit, verdict.limit)


def check_artifact(
    artifact: Artifact,
    model: OnnxModel,
    binding: Binding,
    step_graph: StepGraph,
    recordings: Sequence[Mapping[str, Array]] = (),
) -> dict[str, Any]:
    """Compare the artifact with the model.

    Args:
        artifact: compiled, and able to run here.
        model: what it was compiled from.
        binding: its dimensions.
        step_graph: what was lowered.
        recordings: frames by input (calls: whole inputs), real input in place of drawn one.

    Returns:
        JSON facts for the manifest: done, against, max_error, tolerance, lengths, inputs; where
        nothing can be compared done is False, and there is a reason.

    Raises:
        MismatchError: they differ; names the output, and the first stage and node that diverge.
    """
    given = choose_inputs(artifact, binding, step_graph, recordings)
    if given is None:
        return {"done": False, "reason": NOT_DEFINED}
    oracle, findings = Oracle(model), _Findings()
    opened, heads = open_heads(step_graph)
    for length, inputs in given.trials:
        try:
            trial = _Trial(artifact, model, binding, step_graph, opened, inputs, length)
        except StreamError as error:
            count = frame_count(frames_of(artifact.signature, inputs))
            if StepTrace(step_graph, inputs, count).is_finite():
                raise MismatchError(
                    f"self-check: the artifact refuses input that the model takes: {error}"
                ) from error
            return {"done": False, "reason": f"{NOT_DEFINED} ({error})"}
        trial.compare_with_model(oracle, findings)
        trial.compare_frames(findings)
        trial.compare_states()
        if heads:
            trial.compare_held_weights()
    return {
        "done": True,
        "against": findings.against,
        "max_error": float(f"{findings.worst:.3g}"),
        "tolerance": TOLERANCE,
        "lengths": [length for length, _ in given.trials if length is not None],
        "inputs": given.origin,
        "domains": {name: str(domain) for name, domain in given.domains.items()},
        **({"decided_by": "float64"} if findings.limit > TOLERANCE else {}),
        **({"last_place": _rounded(findings.last_place)} if findings.last_place else {}),
    }


class _Trial:
    """The artifact, its model and its graph on one input."""

    def __init__(
        self,
        artifact: Artifact,
        model: OnnxModel,
        binding: Binding,
        graph: StepGraph,
        opened: StepGraph,
        inputs: Mapping[str, Array],
        length: int | None,
    ) -> None:
        self._artifact, self._model, self._binding = artifact, model, binding
        self._graph, self._opened, self._inputs, self._length = graph, opened, inputs, length
        signature = artifact.signature
        self._frames = frames_of(signature, inputs)
        self._count = frame_count(self._frames)
        self._trace = StepTrace(opened, inputs, self._count)
        self._steps = min(self._count, MOST_STEPS)
        self._run = self._run_whole()
        self._states: dict[str, Array] = {}

    def compare_with_model(self, oracle: Oracle, findings: _Findings) -> None:
        """The outputs beside the model's: the whole sequence, any-time outputs at prefixes too."""
        for count in self._prefixes():
            inputs = self._inputs if count == self._count else self._prefix(count)
            try:
                expected = _expected(oracle, inputs, count, self._length)
            except EdgeLSTMError:
                if count == self._count:
                    raise
                continue  # too short for the model
            findings.against = expected.against
            for spec in self._artifact.signature.outputs:
                is_last = spec.time_axis is None
                if count != self._count and not is_last:
                    continue
                wanted = expected.outputs[spec.name]
                rows = self._whole[spec.name]
                place = len(rows) - 1 if count == self._count else row_of_prefix(spec, count)
                if is_last and place < 0:
                    continue  # the stream is silent as long as the model has nothing to say
                actual = rows[place].reshape(wanted.shape) if is_last else to_sequence(rows, spec)
                if spec.dtype in (DType.F16, DType.BF16, DType.F64):
                    exact = self._exact_output(spec, count, wanted.shape)
                    findings.add_last_place(spec.name, actual, exact)
                verdict = judge(
                    actual,
                    wanted,
                    partial(self._exact_output, spec, count, wanted.shape),
                    partial(self._trace.noise, spec.name, count),
                )
                if not verdict.passed:
                    self._fail(spec.name, expected.against, verdict, count)
                findings.add(verdict)

    def compare_frames(self, findings: _Findings) -> None:
        """Every frame's outputs, by `step` and by `run` cut to pieces, beside the step graph's."""
        exact = self._trace.exact(self._steps)
        ways = {"run": self._run}
        if self._artifact.signature.states:
            ways["step"] = self._stepped()
        for way, found in ways.items():
            for spec in self._artifact.signature.outputs:
                wanted = exact[spec.name][due_rows(spec, 0, self._steps, None)]
                rows = found[spec.name][: len(wanted)]
                error = relative_error(rows.reshape(wanted.shape), _like(wanted, rows))
                if error <= TOLERANCE:
                    continue
                limit = max(findings.limit, OURS * self._trace.noise(spec.name, self._steps))
                if not error <= limit:
                    verdict = Verdict(error, limit, "float64", "differs")
                    text = f"the step graph in float64 ({way} frame by frame)"
                    self._fail(spec.name, text, verdict, self._steps)
        if "step" in ways:
            self._compare_run_with_step(ways["run"], ways["step"])

    def _compare_run_with_step(self, run: Mapping[str, Array], step: Mapping[str, Array]) -> None:
        """One code, called in two ways: the same numbers, however small they are."""
        pairs = {name: (x[: len(step[name])], step[name]) for name, x in run.items()}
        if self._steps == self._count:
            pairs |= {name: (x, self._states[name]) for name, x in self._run_states.items()}
        for name, (found, wanted) in pairs.items():
            error = own_error(found, wanted)
            if error <= TOLERANCE:
                continue
            noise = (self._trace.noise if name in run else self._trace.state_noise)(
                name, self._steps
            )
            limit = OURS * noise * scale_of(wanted) / own_scale(wanted)
            if not error <= limit:
                verdict = Verdict(error, limit, "float64", "differs")
                self._fail(name, "itself: run in pieces is not step", verdict, self._steps)

    def compare_states(self) -> None:
        """The states behind the last step beside the step graph's."""
        if not self._states:
            return
        exact = self._trace.states(self._steps)
        for name, found in self._states.items():
            wanted = exact[name].reshape(found.shape)
            error = relative_error(found, wanted)
            if error <= TOLERANCE:
                continue
            limit = max(TOLERANCE, OURS * self._trace.state_noise(name, self._steps))
            if not error <= limit:
                verdict = Verdict(error, limit, "float64", "differs")
                self._fail(name, "the step graph in float64", verdict, self._steps, "state")

    def compare_held_weights(self) -> None:
        """What stands before softmax and the like, with the weights that the artifact holds."""
        frames = [self._trace.frame(index) for index in range(self._steps)]
        found = run_held_weights(self._artifact, self._graph, self._opened, frames)
        wrong = None if found is None else first_wrong_row(found, self._trace, self._steps)
        if wrong is None:
            return
        name, error = wrong
        raise MismatchError(
            f"self-check: the weights in the artifact are not the model's: {name!r} differs "
            f"from the step graph in float64 by {error:.3g}"
        )

    def _run_whole(self) -> dict[str, Array]:
        """The rows of all outputs, a call or by `run` in pieces of unequal length."""
        session = self._artifact.session()
        rows = run_pieces(session, self._frames, self._count)
        self._run_states = read_states(session)
        self._whole = joined([rows, rows_behind(session)], session.signature)
        return rows

    def _stepped(self) -> dict[str, Array]:
        session = self._artifact.session()
        rows = step_through(session, self._frames, self._steps)
        self._states = read_states(session)
        return rows

    def _prefixes(self) -> list[int]:
        """Numbers of frames at which the model is evaluated: all, and short ones where it can."""
        outputs = self._artifact.signature.outputs
        if self._length is None or all(spec.time_axis is not None for spec in outputs):
            return [self._count]
        return sorted({n for n in (1, 2, 3, self._count - 1, self._count) if n > 0})

    def _prefix(self, count: int) -> dict[str, Array]:
        """The first frames of the inputs."""
        axes = {item.value.name: item.time_axis for item in self._graph.inputs}
        return {
            name: x
            if (axis := axes.get(name)) is None
            else np.take(x, np.arange(min(count, x.shape[axis])), axis)
            for name, x in self._inputs.items()
        }

    def _exact_output(self, spec: TensorSpec, count: int, shape: tuple[int, ...]) -> Array:
        rows = self._trace.whole(count)[spec.name]
        if spec.time_axis is None:
            last: Array = rows[-1]
            return last.reshape(shape)
        return to_sequence(rows, spec)

    def _fail(
        self, name: str, against: str, verdict: Verdict, count: int, what: str = "output"
    ) -> None:
        where = first_divergence(
            self._model, self._binding, self._graph, self._artifact, self._inputs, TOLERANCE
        )
        frames = "" if self._length is None else f" over {count} frames"
        raise MismatchError(
            f"self-check: {what} {name!r} differs from {against} by {verdict.error:.3g}{frames} "
            f"(allowed {verdict.limit:.3g}); {where}"
        )


def _rounded(numbers: Mapping[str, float]) -> dict[str, float]:
    return {name: float(f"{number:.3g}") for name, number in numbers.items()}


def _like(wanted: Array, rows: Array) -> Array:
    """The expected values; of integers as integers, so that they are compared exactly."""
    return wanted if is_floating(rows.dtype) else wanted.astype(rows.dtype)


def _expected(
    oracle: Oracle,
    inputs: Mapping[str, Array],
    count: int,
    length: int | None,
) -> Expected:
    try:
        return oracle.run(inputs)
    except EdgeLSTMError as error:
        if length is None:
            raise
        raise MismatchError(
            f"the model says that its time is free, but fails at {count} frames: "
            f"{error}. A length was baked in when it was exported: give the shape it "
            "was traced with by --shape, or export it again with dynamic axes"
        ) from error
