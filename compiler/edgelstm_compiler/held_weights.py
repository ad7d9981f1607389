"""The weights that an artifact holds, run through its program in NumPy with the heads opened."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from edgelstm.artifact import WEIGHTS_SECTION, Artifact
from edgelstm.errors import EdgeLSTMError
from edgelstm_compiler.comparison import OURS, TOLERANCE, relative_error
from edgelstm_compiler.ir.graph import StepGraph
from edgelstm_compiler.ir.types import Array
from edgelstm_compiler.lowering.execute import ProgramRunner
from edgelstm_compiler.lowering.lower import lower
from edgelstm_compiler.step_trace import StepTrace
from edgelstm_compiler.target import find_target


def run_held_weights(
    artifact: Artifact,
    graph: StepGraph,
    opened: StepGraph,
    frames: Sequence[Mapping[str, Array]],
) -> dict[str, Array] | None:
    """Every output of the opened graph, (frames, *shape), with the artifact's own weight blob.

    Returns:
        The rows; None where the target keeps its weights in another form.
    """
    try:
        takes = find_target(str(artifact.manifest["target"]["name"])).capabilities()
        packed = [
            lower(g, takes.unit_block, None, takes.weight_offset, takes.packing, takes.columns)
            for g in (graph, opened)
        ]
        held = bytes(artifact.container.section(WEIGHTS_SECTION))
    except EdgeLSTMError:
        return None
    if packed[0].weights != packed[1].weights or len(held) != len(packed[1].weights):
        return None
    runner = ProgramRunner(dataclasses.replace(packed[1], weights=held))
    rows: dict[str, list[Array]] = {output.name: [] for output in opened.outputs}
    with np.errstate(all="ignore"):
        for frame in frames:
            found = runner.step(dict(frame))
            for name, collected in rows.items():
                collected.append(found[name])
    return {name: np.stack(items) for name, items in rows.items()}


def first_wrong_row(
    found: dict[str, Array], trace: StepTrace, count: int
) -> tuple[str, float] | None:
    """The first output of the opened graph that float32 rounding does not explain, with its error.

    Returns:
        Its name and its error relative to the largest magnitude; None where all are right.
    """
    exact = trace.exact(count)
    for name, rows in found.items():
        wanted = exact[name].reshape(rows.shape)
        error = relative_error(rows, wanted)
        if error <= TOLERANCE:
            continue
        if not error <= max(TOLERANCE, OURS * trace.noise(name, count)):
            return name, error
    return None
