"""A look-ahead model beside what it is defined to be, and its distance from the whole sequence.

It is judged against the chunk's graph in float64, and where no state is carried yet against the
model itself: a recording that ends within the first chunk is the whole sequence, and the first N
answers are the model's on the first N + L frames. How far the look-ahead as such is from the model
over whole recordings is measured and told; nothing fails for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from edgelstm.artifact import Artifact
from edgelstm.dtypes import DType
from edgelstm.errors import EdgeLSTMError, MismatchError
from edgelstm.signature import THERE, LookaheadPlan, TensorSpec
from edgelstm_compiler.binding import Binding
from edgelstm_compiler.check_inputs import NOT_DEFINED
from edgelstm_compiler.comparison import OURS, TOLERANCE, relative_error
from edgelstm_compiler.ir.evaluate import evaluate
from edgelstm_compiler.ir.graph import StepGraph
from edgelstm_compiler.ir.types import Array
from edgelstm_compiler.onnx_import.read import OnnxModel
from edgelstm_compiler.selfcheck import Oracle
from edgelstm_compiler.session_rows import (
    frames_of,
    joined,
    rows_behind,
    run_pieces,
    step_through,
)
from edgelstm_compiler.step_trace import rounded
from edgelstm_compiler.trial_inputs import random_inputs
from edgelstm_compiler.whole_sequence import Rows, deviation, frames_by_name, model_inputs

SHORT = 64
"""Frames of a recording that ends within the first chunk, at most."""

MORE = 9
"""Frames behind the chunks of the long recording."""


@dataclass(frozen=True, slots=True)
class ChunkRows:
    """What a chunk's graph gives over recordings, evaluated chunk by chunk.

    Args:
        graph: of the chunk.
        plan: how frames are cut.
        specs: inputs and outputs as callers see them, by name.
        axes: where the frames stand in the chunk of each input and output.
    """

    graph: StepGraph
    plan: LookaheadPlan
    specs: Mapping[str, TensorSpec]
    axes: Mapping[str, int | None]

    @classmethod
    def of(cls, artifact: Artifact, graph: StepGraph) -> ChunkRows:
        """Those of an artifact's chunk."""
        signature = artifact.signature
        plan = signature.lookahead
        assert plan is not None
        kernel = (*plan.kernel.inputs, *plan.kernel.outputs)
        specs = {spec.name: spec for spec in (*signature.inputs, *signature.outputs)}
        return cls(graph, plan, specs, {spec.name: spec.chunk_axis for spec in kernel})

    def exact(self, frames: Mapping[str, Array]) -> Rows:
        """In float64, to the end of a recording: for each output (n, *frame)."""
        return self._run(frames, DType.F64)

    def noise(self, frames: Mapping[str, Array]) -> dict[str, float]:
        """How far float32 arithmetic, and rounding the inputs, put each output from float64."""
        exact = self.exact(frames)
        runs = [self._run(frames, None)]
        runs += [self._run(frames, DType.F64, np.random.default_rng(seed)) for seed in (1, 2)]
        return {
            name: max(relative_error(run[name], wanted) for run in runs)
            for name, wanted in exact.items()
        }

    def _run(
        self,
        frames: Mapping[str, Array],
        dtype: DType | None,
        rng: np.random.Generator | None = None,
    ) -> Rows:
        total = len(next(iter(frames.values())))
        rows: dict[str, list[Array]] = {out.name: [] for out in self.graph.outputs}
        states: dict[str, Array] = {}
        there = {state.name: state for state in self.graph.states}.get(THERE)
        for start in range(0, total, self.plan.chunk):
            count = min(self.plan.span, total - start)
            if there is not None:
                states[THERE] = np.full(there.type.shape, count, np.int32)
            inputs = {
                item.value.name: self._chunk(item.value.name, frames, start, count).reshape(
                    item.value.type.shape
                )
                for item in self.graph.inputs
            }
            if rng is not None:
                inputs = {name: rounded(x, rng) for name, x in inputs.items()}
            with np.errstate(all="ignore"):
                result = evaluate(self.graph, inputs, dtype=dtype, states=states)
            states = dict(result.states)
            for name, data in result.outputs.items():
                rows[name].append(self._answers(name, data)[: total - start])
        return {name: np.concatenate(parts) for name, parts in rows.items()}

    def _chunk(self, name: str, frames: Mapping[str, Array], start: int, count: int) -> Array:
        axis, data = self.axes[name], frames[name]
        if axis is None:
            return np.asarray(data[start + count - 1])
        chunk = np.zeros((self.plan.span, *data.shape[1:]), data.dtype)
        chunk[:count] = data[start : start + count]
        return np.ascontiguousarray(np.moveaxis(chunk, 0, axis))

    def _answers(self, name: str, data: Array) -> Array:
        axis, shape = self.axes[name], self.specs[name].shape
        assert axis is not None
        whole = data.reshape(*shape[:axis], self.plan.chunk, *shape[axis:])
        return np.ascontiguousarray(np.moveaxis(whole, axis, 0))


def check_lookahead(
    artifact: Artifact,
    model: OnnxModel,
    binding: Binding,
    graph: StepGraph,
    recordings: Sequence[Mapping[str, Array]] = (),
) -> dict[str, Any]:
    """Compare an artifact with the model and with its chunk in float64.

    Args:
        artifact: compiled for look-ahead, and able to run here.
        model: what it was compiled from.
        binding: its dimensions.
        graph: the chunk.
        recordings: frames by input, in place of random ones.

    Returns:
        JSON facts for the manifest, see `check_artifact`; of recordings also `deviation`: the
        distance of each output from the whole sequence.

    Raises:
        MismatchError: they differ.
    """
    check = _Check(artifact, Oracle(model), binding, ChunkRows.of(artifact, graph))
    given = {name: np.asarray(x) for name, x in recordings[0].items()} if recordings else None
    frames = check.long_frames() if given is None else _held(given, artifact)
    if not all(np.isfinite(x).all() for x in check.chunks.exact(frames).values()):
        return {"done": False, "reason": NOT_DEFINED}
    total = len(next(iter(frames.values())))
    limit = min(total, check.plan.span + 3 * check.plan.chunk + MORE)
    check.compare_beginnings(frames)
    check.compare_chunks({name: x[:limit] for name, x in frames.items()})
    facts: dict[str, Any] = {
        "done": True,
        "against": check.against,
        "max_error": float(f"{check.worst:.3g}"),
        "tolerance": TOLERANCE,
        "lengths": [limit],
        "inputs": "seeded random input" if given is None else "a recording",
        "domains": {},
    }
    if given is not None:
        found = deviation(
            artifact.signature, check.oracle, frames, check.fixed, partial(run_to_end, artifact)
        )
        facts["deviation"] = {name: error.to_json() for name, error in found.items()}
    return facts


def run_to_end(
    artifact: Artifact, frames: Mapping[str, Array], cuts: Sequence[int] | None = None
) -> Rows:
    """All answers over a recording, fed in pieces."""
    with artifact.session() as session:
        count = len(next(iter(frames.values())))
        rows = run_pieces(session, frames, count, cuts)
        return joined([rows, rows_behind(session)], artifact.signature)


def _held(frames: Mapping[str, Array], artifact: Artifact) -> dict[str, Array]:
    """Recordings hold inputs without time once: the same for every frame."""
    timed = [spec.name for spec in artifact.signature.inputs if spec.time_axis is not None]
    count = min(len(frames[name]) for name in timed)
    return {
        spec.name: np.asarray(frames[spec.name])[:count]
        if spec.time_axis is not None
        else np.repeat(np.asarray(frames[spec.name]).reshape(1, *spec.shape), count, axis=0)
        for spec in artifact.signature.inputs
    }


class _Check:
    """The comparisons, and the largest error of them."""

    def __init__(
        self, artifact: Artifact, oracle: Oracle, binding: Binding, chunks: ChunkRows
    ) -> None:
        self._artifact, self._binding = artifact, binding
        self.oracle, self.chunks, self.plan = oracle, chunks, chunks.plan
        self.worst = 0.0
        self.against = "float64 evaluation"
        self.fixed: int | None = None
        if not binding.free_time:
            self.fixed = next(
                binding.shapes[spec.name][spec.time_axis]
                for spec in artifact.signature.inputs
                if spec.time_axis is not None
            )

    def long_frames(self) -> Rows:
        """Random frames for several chunks, more than the code is handed at once."""
        count = self.fixed or self.plan.span + 3 * self.plan.chunk + MORE
        shapes = self._binding.shapes_for(count)
        return frames_of(self._artifact.signature, random_inputs(self._binding, shapes))

    def compare_beginnings(self, frames: Mapping[str, Array]) -> None:
        """Where nothing is carried yet the model itself says what is right."""
        total, span = len(next(iter(frames.values()))), self.plan.span
        if self.fixed is not None:
            lengths = [self.fixed] if self.fixed <= min(span, total) else []
        else:
            whole = min(span, total)
            lengths = sorted({whole, min(whole, SHORT), -(-min(whole, SHORT) // 2)})
        for length in lengths:
            part = {name: x[:length] for name, x in frames.items()}
            try:
                expected = self.oracle.run(model_inputs(part, self._artifact.signature.inputs))
            except EdgeLSTMError:
                if self.fixed is not None or length == max(lengths):
                    raise
                continue  # too short for the model
            self.against = expected.against
            wanted = frames_by_name(expected.outputs, self._artifact.signature.outputs)
            self._judge(run_to_end(self._artifact, part), wanted, part, self.against)
            if length == span and total > span:
                longer = {name: x[: span + self.plan.chunk] for name, x in frames.items()}
                found = run_to_end(self._artifact, longer)
                first = {name: x[: self.plan.chunk] for name, x in found.items()}
                wanted = {name: x[: self.plan.chunk] for name, x in wanted.items()}
                self._judge(first, wanted, longer, self.against)

    def compare_chunks(self, frames: Mapping[str, Array]) -> None:
        """All answers beside the chunk in float64, by `run` in pieces and by `step`."""
        wanted = self.chunks.exact(frames)
        count = len(next(iter(frames.values())))
        self._judge(run_to_end(self._artifact, frames), wanted, frames, "the chunk in float64")
        with self._artifact.session() as session:
            stepped = step_through(session, frames, count)
            rows = joined([stepped, rows_behind(session)], self._artifact.signature)
        self._judge(rows, wanted, frames, "the chunk in float64 (step by step)")

    def _judge(self, found: Rows, wanted: Rows, frames: Mapping[str, Array], against: str) -> None:
        noise: dict[str, float] | None = None
        for name, rows in found.items():
            expected = wanted[name]
            if np.issubdtype(rows.dtype, np.integer):
                expected = expected.astype(rows.dtype)
            error = relative_error(rows, expected.reshape(rows.shape))
            limit = TOLERANCE
            if not error <= limit:
                noise = self.chunks.noise(frames) if noise is None else noise
                limit = max(limit, OURS * noise[name])
            if not error <= limit:
                raise MismatchError(
                    f"self-check: output {name!r} differs from {against} by {error:.3g} over "
                    f"{len(rows)} frames (allowed {limit:.3g})"
                )
            if np.isfinite(error):
                self.worst = max(self.worst, error)
