"""`edgelstm debug`: which tensor or gate, in program order, is first beyond its share of the error.

The budget is a signal-to-noise ratio at the end of the program; behind k of N layers a tensor is
allowed k / N of that noise power. A float32 artifact is held against the same graph in float64.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from edgelstm.dtypes import DType
from edgelstm_compiler.blame import first_divergence
from edgelstm_compiler.comparison import OURS, TOLERANCE, relative_error
from edgelstm_compiler.ir.evaluate import evaluate
from edgelstm_compiler.ir.graph import StepGraph
from edgelstm_compiler.ir.ops import Recurrent
from edgelstm_compiler.ir.types import Array, Node
from edgelstm_compiler.quant.accuracy import measure
from edgelstm_compiler.quant.convert import quantize_graph
from edgelstm_compiler.quant.replay import Recording, Replay, chunks
from edgelstm_compiler.quant.scheme import QuantizeOptions, Scheme
from edgelstm_compiler.quant.support import is_layer
from edgelstm_compiler.quant_report.gates import (
    GateTrace,
    cell_values,
    is_cell,
    merge_traces,
    trace_gates,
)
from edgelstm_compiler.quant_report.restore import Restored, Runner
from edgelstm_compiler.quant_report.tensors import (
    Observed,
    as_float,
    counterpart,
    observe,
    shown_values,
)
from edgelstm_compiler.quant_report.verification import verify_quantized
from edgelstm_compiler.trial_inputs import random_inputs
from edgelstm_compiler.verification import compare_rows

BUDGET_DB = {
    Scheme.FP32: 100.0,
    Scheme.FP16: 60.0,
    Scheme.W8: 40.0,
    Scheme.INT8: 35.0,
    Scheme.INT8_FULL: 30.0,
    Scheme.W4: 20.0,
}
"""What a whole program of one scheme should reach at its outputs."""

_FRAMES = 11
"""Frames of random input that find where code and graph part, where time is free."""

_OUTPUTS = ("Y", "h", "c")


@dataclass(frozen=True, slots=True)
class TensorError:
    """One tensor or gate.

    Args:
        name: of the value; a gate has its layer's name in front.
        layer: the node it belongs to.
        kind: its operator, or "gate".
        behind: quantized layers up to and with this one.
        sqnr_db: None where there is no error at all.
        share_db: the least that is allowed here.
        rms_error, max_error: absolute.
    """

    name: str
    layer: str
    kind: str
    behind: int
    sqnr_db: float | None
    share_db: float
    rms_error: float
    max_error: float

    @property
    def is_beyond(self) -> bool:
        """Whether it has more than its share of the error."""
        return self.sqnr_db is not None and self.sqnr_db < self.share_db


@dataclass(frozen=True, slots=True)
class Bisection:
    """The result.

    Args:
        against: what the program was held against.
        budget_db: see above.
        tensors: in program order, gates in front of the output of their layer.
        alone: SQNR in dB of the worst output if only this layer is quantized, by layer.
        code: what the compiled code adds to what the graph defines, as a sentence.
        code_passed: whether that is nothing but rounding.
    """

    against: str
    budget_db: float
    tensors: tuple[TensorError, ...]
    alone: Mapping[str, float | None]
    code: str
    code_passed: bool

    @property
    def first(self) -> TensorError | None:
        """The first tensor beyond its share."""
        return next((tensor for tensor in self.tensors if tensor.is_beyond), None)

    def to_json(self) -> dict[str, Any]:
        """A JSON object."""
        return {
            "against": self.against,
            "budget_db": self.budget_db,
            "first_beyond": None if self.first is None else self.first.name,
            "tensors": [{**asdict(item), "is_beyond": item.is_beyond} for item in self.tensors],
            "alone_db": dict(self.alone),
            "code": self.code,
            "code_passed": self.code_passed,
        }


def bisect(
    restored: Restored, recordings: Sequence[Recording], budget_db: float | None = None
) -> Bisection:
    """Compare every tensor and gate of the artifact's program with the float32 (float64) one."""
    graph = restored.float_graph
    schemes = _schemes(restored)
    budget = budget_db if budget_db is not None else min(BUDGET_DB[s] for s in schemes.values())
    pairs = shown_values(graph)
    names = [value.name for _, value in pairs]
    if restored.converted is None:
        found, wanted = observe(graph, names, recordings), _exact(graph, names, recordings)
        present = {name: name for name in names}
    else:
        wanted = observe(graph, names, recordings)
        present = {
            name: other
            for name in names
            if (other := counterpart(name, restored.graph, restored.converted)) is not None
        }
        found = observe(restored.graph, list(present.values()), recordings)
    depth = _depths(graph, set(schemes))
    total = max(len(schemes), 1)
    tensors: list[TensorError] = []
    for node, value in pairs:
        share = budget - 10.0 * float(np.log10(max(depth[node.name], 1) / total))
        if value.name == next(v.name for n, v in pairs if n is node):
            tensors += _gate_errors(node, depth[node.name], share, restored, wanted, found)
        if value.name not in present:
            continue
        data = found.rows[present[value.name]]
        if restored.converted is not None:
            data = as_float(value.name, data, restored.converted)
        kind = node.op.kind
        if isinstance(node.op, Recurrent):
            kind += f" {_OUTPUTS[node.outputs.index(value)]}"
        tensors.append(
            _error(
                value.name,
                node,
                kind,
                depth[node.name],
                share,
                wanted.rows[value.name],
                data,
            )
        )
    code, passed = _code(restored, recordings)
    against = "float64 evaluation" if restored.converted is None else "float32 step graph"
    return Bisection(against, budget, tuple(tensors), _alone(restored, recordings), code, passed)


def _schemes(restored: Restored) -> dict[str, Scheme]:
    """The scheme of each layer that has one; float32 programs: all layers."""
    if restored.quantized is None:
        return {n.name: Scheme.FP32 for n in restored.float_graph.nodes if is_layer(n)} or {
            "": Scheme.FP32
        }
    layers = restored.quantized.record["layers"]
    return {layer["name"]: Scheme(layer["scheme"]) for layer in layers} or {"": Scheme.FP32}


def _depths(graph: StepGraph, layers: set[str]) -> dict[str, int]:
    """How many of the layers stand in front of each node, with itself."""
    producers = {value: node for node in graph.nodes for value in node.outputs}
    before: dict[str, set[str]] = {}
    for node in graph.nodes:
        found = {node.name} & layers
        for value in node.inputs:
            source = producers.get(value) if value is not None else None
            if source is not None:
                found |= before[source.name]
        before[node.name] = found
    return {name: len(found) for name, found in before.items()}


def _exact(graph: StepGraph, names: Sequence[str], recordings: Sequence[Recording]) -> Observed:
    """The graph in float64; gates where one recording is one run of frames."""
    cells = [node for node in graph.nodes if is_cell(node)]
    watched = dict.fromkeys([*names, *(n for node in cells for n in cell_values(node))])
    rows: dict[str, list[Array]] = {name: [] for name in watched}
    gates: dict[str, list[GateTrace]] = {}
    for recording in recordings:
        states: Mapping[str, Array] | None = None
        begin = len(next(iter(rows.values())))
        for chunk in chunks(graph, recording):
            result = evaluate(graph, chunk, dtype=DType.F64, states=states, keep=True)
            states = result.states
            for name, collected in rows.items():
                collected.append(result.values[name])
        run = {name: np.stack(collected[begin:]) for name, collected in rows.items()}
        for node in cells:
            trace = trace_gates(node, run, result.values)
            gates.setdefault(node.outputs[0].name, []).append(trace)
    joined = {name: np.stack(collected) for name, collected in rows.items()}
    return Observed(joined, {name: merge_traces(found) for name, found in gates.items()})


def _gate_errors(
    node: Node, behind: int, share: float, restored: Restored, wanted: Observed, found: Observed
) -> list[TensorError]:
    first = node.outputs[0].name
    other: str | None = first
    if restored.converted is not None:
        other = counterpart(first, restored.graph, restored.converted)
    exact, actual = wanted.gates.get(first), found.gates.get(other or "")
    if exact is None or actual is None:
        return []
    return [
        _error(f"{node.name}: {name}", node, "gate", behind, share, data, actual.activations[name])
        for name, data in exact.activations.items()
    ]


def _error(
    name: str, node: Node, kind: str, behind: int, share: float, wanted: Array, found: Array
) -> TensorError:
    error = measure(wanted, found.reshape(wanted.shape))
    finite = bool(np.isfinite(error.sqnr_db))
    return TensorError(
        name=name,
        layer=node.name,
        kind=kind,
        behind=behind,
        sqnr_db=round(error.sqnr_db, 2) if finite else None,
        share_db=round(share, 2),
        rms_error=float(f"{error.rms_error:.4g}"),
        max_error=float(f"{error.max_error:.4g}"),
    )


def _alone(restored: Restored, recordings: Sequence[Recording]) -> dict[str, float | None]:
    """Each layer quantized by itself, all others in float32."""
    model = restored.quantized
    if model is None:
        return {}
    graph = restored.float_graph
    options = replace(QuantizeOptions.from_json(model.record["options"]), integer_io=False)
    exact = _outputs(graph, recordings)
    alone: dict[str, float | None] = {}
    for name, scheme in _schemes(restored).items():
        if not name:
            continue
        single = quantize_graph(graph, model.calibration, {name: scheme}, options)
        found = _outputs(single.graph, recordings)
        worst = min(measure(exact[key], found[key]).sqnr_db for key in exact)
        alone[name] = round(worst, 2) if np.isfinite(worst) else None
    return alone


def _outputs(graph: StepGraph, recordings: Sequence[Recording]) -> dict[str, Array]:
    replay = Replay(graph)
    runs = [replay.run(recording) for recording in recordings]
    return {out.name: np.concatenate([run[out.name] for run in runs]) for out in graph.outputs}


def _code(restored: Restored, recordings: Sequence[Recording]) -> tuple[str, bool]:
    """The artifact's own code beside the graph that it was made from."""
    artifact = restored.artifact
    if restored.quantized is not None:
        result = verify_quantized(restored, recordings[:1]).defined
        worst = max(output.max_error for output in result.outputs)
        if result.passed:
            return (
                f"the code computes what the graph defines (largest difference {worst:.3g})",
                True,
            )
        return (
            f"the code of target {artifact.manifest['target']['name']!r} differs from the graph by "
            f"{worst:.3g}: it does not compute what the scheme defines",
            False,
        )
    graph = restored.float_graph
    expected = _outputs(graph, recordings[:1])
    runner = Runner(graph, artifact, {})
    actual = runner.run(recordings[0])
    reports = [compare_rows(key, actual[key], expected[key], TOLERANCE) for key in expected]
    worst = max(report.max_error for report in reports)
    if not all(report.passed for report in reports):
        exact = _exact(graph, [out.value.name for out in graph.outputs], recordings[:1]).rows
        reports = [
            compare_rows(
                out.name,
                actual[out.name],
                exact[out.value.name],
                max(TOLERANCE, OURS * relative_error(expected[out.name], exact[out.value.name])),
            )
            for out in graph.outputs
        ]
    if all(report.passed for report in reports):
        return f"the code computes what the graph defines (largest difference {worst:.3g})", True
    inputs = random_inputs(restored.binding, restored.binding.shapes_for(_FRAMES))
    where = first_divergence(restored.model, restored.binding, graph, artifact, inputs, TOLERANCE)
    return f"the code differs from the graph by {worst:.3g}; {where}", False
