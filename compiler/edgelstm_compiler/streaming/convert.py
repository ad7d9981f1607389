"""Sequence graph -> step graph: every node for one frame, cells with carried states."""

from __future__ import annotations

from collections.abc import Callable

from edgelstm_compiler.ir.graph import Graph, StepGraph, StepInput, StepOutput
from edgelstm_compiler.ir.ops import Gather, Recurrent, Scan, Slice
from edgelstm_compiler.ir.types import Node, Op, Value
from edgelstm_compiler.streaming.axes import AxisClasses, walked_values
from edgelstm_compiler.streaming.builder import StepBuilder
from edgelstm_compiler.streaming.frame_rules import step_per_frame, step_selection
from edgelstm_compiler.streaming.recurrent_rule import step_recurrent
from edgelstm_compiler.streaming.refusal import CALL_INSTEAD, CannotStepError, refuse
from edgelstm_compiler.streaming.scan_rule import step_scan
from edgelstm_compiler.streaming.unrolled import why_nothing_is_carried

Rule = Callable[[Node, StepBuilder], None]

RULES: dict[type[Op], Rule] = {
    Recurrent: step_recurrent,
    Scan: step_scan,
    Slice: step_selection,
    Gather: step_selection,
}
"""How a class of operators is stepped; all others step every frame alone (`step_per_frame`)."""


def to_steps(graph: Graph, advice: str = CALL_INSTEAD) -> StepGraph:
    """One frame of a recurrent network, its memory as explicit states.

    Args:
        graph: the network over some number of frames.
        advice: what the error says to do.

    Raises:
        StreamabilityError: naming every node that cannot be stepped, and why.
    """
    axes = AxisClasses(graph)
    steps = _sequence_length(graph, axes, advice)
    builder = StepBuilder(graph, axes, steps)
    reasons: list[tuple[str, str]] = []
    inputs: list[StepInput] = []
    for value in graph.inputs:
        if len(axes.time_axes(value)) > 1:
            reasons.append((f"input {value.name!r}", "it has more than one time axis"))
            continue
        new = builder.define(value)
        inputs.append(StepInput(new, builder.time_axis(value), axes.batch_axis(value)))
    failed: set[Value] = set()
    if reasons:
        raise refuse(reasons, advice)
    for node in graph.nodes:
        if any(value in failed for value in node.inputs):
            failed.update(node.outputs)
            continue
        reason = _step(node, builder)
        if reason is not None:
            reasons.append((node.origin or node.name, reason))
            failed.update(node.outputs)
    if reasons:
        raise refuse(reasons, advice)
    outputs = []
    for output in graph.outputs:
        new_value = builder.use(output.value)
        assert new_value is not None
        time, batch = builder.time_axis(output.value), axes.batch_axis(output.value)
        outputs.append(StepOutput(output.name, new_value, time, batch))
    return StepGraph(
        graph.name,
        "stream",
        tuple(inputs),
        tuple(outputs),
        tuple(builder.nodes),
        builder.constants(),
        tuple(builder.states),
    )


def _step(node: Node, builder: StepBuilder) -> str | None:
    """Apply the node's rule; why it cannot be stepped, or None."""
    try:
        rules = (rule for kind, rule in RULES.items() if isinstance(node.op, kind))
        next(rules, step_per_frame)(node, builder)
    except CannotStepError as error:
        return str(error)
    return None


def _sequence_length(graph: Graph, axes: AxisClasses, advice: str) -> int:
    lengths = {
        value.type.shape[axis]
        for value in walked_values(graph)
        for axis in axes.time_axes(value)[:1]
    }
    if not lengths:
        raise refuse([("the model", why_nothing_is_carried(graph))], advice)
    if len(lengths) > 1:
        found = ", ".join(map(str, sorted(lengths)))
        reason = f"its recurrent layers run over different lengths: {found}"
        raise refuse([("the model", reason)], advice)
    return lengths.pop()
