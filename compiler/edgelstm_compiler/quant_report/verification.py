"""A quantized artifact beside the quantized step graph: it must compute what the scheme defines.

How far that is from the float32 model is told, but nothing fails for it: that is what was asked
for, and what `edgelstm report` is about.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgelstm_compiler.ir.types import Array
from edgelstm_compiler.quant.accuracy import ErrorMeasure, measure
from edgelstm_compiler.quant.check import MARGIN, TOLERANCE
from edgelstm_compiler.quant.replay import Recording, chunks
from edgelstm_compiler.quant.search import end_to_end_error
from edgelstm_compiler.quant_report.restore import Restored, Runner
from edgelstm_compiler.verification import Verification, compare_rows


@dataclass(frozen=True, slots=True)
class QuantizedVerification:
    """Both comparisons.

    Args:
        defined: against the quantized step graph; this passes or fails.
        distance: of each output from the float32 step graph.
    """

    defined: Verification
    distance: Mapping[str, ErrorMeasure]

    @property
    def passed(self) -> bool:
        """Whether the artifact computes what its schemes define."""
        return self.defined.passed

    def to_json(self) -> dict[str, Any]:
        """A JSON object."""
        far = {name: error.to_json() for name, error in self.distance.items()}
        return {**self.defined.to_json(), "distance_to_fp32": far}


def verify_quantized(restored: Restored, recordings: Sequence[Recording]) -> QuantizedVerification:
    """Run the artifact, the quantized and the float32 step graph over the same recordings.

    The artifact is stepped frame by frame (call mode: called). In integers the limit is zero; where
    gates are float32 it is `MARGIN` of what quantizing costs.
    """
    model = restored.quantized
    assert model is not None
    integer_tensors = restored.integer_tensors
    defined = Runner(model.graph, None, integer_tensors)
    exact = Runner(restored.float_graph, None, {})
    expected, wanted, actual = [], [], []
    for recording in recordings:
        expected.append(defined.run(recording))
        wanted.append(exact.run(recording))
        actual.append(_step(restored, defined, recording))
    joined, far, found = (_joined(rows) for rows in (expected, wanted, actual))
    limit = 0.0
    if not model.is_exact:
        limit = max(TOLERANCE, MARGIN * end_to_end_error(far, joined))
    reports = tuple(compare_rows(name, found[name], rows, limit) for name, rows in joined.items())
    steps = len(next(iter(joined.values())))
    distance = {name: measure(far[name], rows) for name, rows in found.items()}
    return QuantizedVerification(Verification("quantized step graph", steps, reports), distance)


def _step(restored: Restored, runner: Runner, recording: Recording) -> dict[str, Array]:
    """Every output step by step or by a call, as the graph has it, in floats."""
    artifact, graph = restored.artifact, restored.graph
    session, signature = artifact.session(), artifact.signature
    given = {name: runner.to_integers(name, np.asarray(x)) for name, x in recording.items()}
    rows: dict[str, list[Array]] = {spec.name: [] for spec in signature.outputs}
    shapes = {out.name: out.value.type.shape for out in graph.outputs}
    for chunk in chunks(graph, given):
        frame: Any = {spec.name: chunk[spec.name].reshape(spec.shape) for spec in signature.inputs}
        result = session.advance(frame)
        for name, collected in rows.items():
            value = result[name] if isinstance(result, dict) else result
            if value is not None:
                collected.append(np.array(value).reshape(shapes[name]))
    return {name: runner.to_floats(name, np.stack(items)) for name, items in rows.items()}


def _joined(runs: Sequence[Mapping[str, Array]]) -> dict[str, Array]:
    return {name: np.concatenate([run[name] for run in runs]) for name in runs[0]}
