"""A Scan for compiled code: its body as a program of its own, run once a frame."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from edgelstm.errors import CapabilityError
from edgelstm_compiler.ir.graph import State, StepGraph, StepInput, StepOutput
from edgelstm_compiler.ir.ops import Scan
from edgelstm_compiler.ir.program import Program, ScanKernel
from edgelstm_compiler.ir.types import Array, Constant, Node, Value
from edgelstm_compiler.lowering.bounds.check import find_bounds
from edgelstm_compiler.lowering.select import Selected

Lower = Callable[[StepGraph], Program]


def select_scan(node: Node, constants: Mapping[Value, Array], lower: Lower) -> Selected:
    """The kernel of a Scan, with the weights of its body as one more input.

    Args:
        node: the Scan.
        constants: what is known of its inputs.
        lower: makes a program of a step graph.

    Raises:
        CapabilityError: its body uses frames or carried values as indices.
    """
    op = node.op
    assert isinstance(op, Scan)
    behind = op.states + op.sequences
    known = [
        position
        for position in range(behind, len(node.inputs))
        if node.inputs[position] in constants
    ]
    graph = body_graph(node, {position: constants[node.inputs[position]] for position in known})  # type: ignore[index]
    bounds = find_bounds(graph)
    if bounds.unbounded or bounds.ranges:
        raise CapabilityError(
            f"{node.origin or node.name}: its body uses numbers of each frame as indices, and "
            "compiled code checks those of inputs alone: look them up in front of the loop, or "
            "use --target reference"
        )
    program = lower(graph)
    weights = Constant.of(f"{node.name}.weights", np.frombuffer(program.weights or b"\0", np.uint8))
    inputs = [value for position, value in enumerate(node.inputs) if position not in known]
    macs = program.macs * op.length
    kernel = ScanKernel(op.states, op.sequences, op.length, program)
    return Selected(kernel, (*inputs, weights.value), node.outputs, (weights,), macs, node)


def body_graph(node: Node, known: Mapping[int, Array]) -> StepGraph:
    """The body of a Scan as the step of a stream.

    Args:
        node: the Scan.
        known: constants among its inputs, by position.
    """
    op = node.op
    assert isinstance(op, Scan)
    behind = op.states + op.sequences
    values: list[Value] = []
    constants: list[Constant] = []
    for position, kind in enumerate(op.body.inputs):
        if position in known:
            constants.append(Constant.of(f"held{position}", known[position]))
            values.append(constants[-1].value)
        else:
            role = "state" if position < op.states else "frame" if position < behind else "held"
            values.append(Value(f"{role}{position}", kind))
    nodes = []
    for number, each in enumerate(op.body.nodes):
        given = tuple(None if n is None else values[n] for n in each.inputs)
        kinds = each.op.infer([None if value is None else value.type for value in given])
        made = tuple(Value(f"v{number}_{k}", kind) for k, kind in enumerate(kinds))
        nodes.append(Node(each.op, given, made, f"{node.name}.{number}", node.origin))
        values += made
    results = [values[number] for number in op.body.outputs]
    states = tuple(
        State(read.name, read.type, _zeros(read), read, write)
        for read, write in zip(values[: op.states], results, strict=False)
    )
    inputs = [values[k] for k in range(op.states, len(op.body.inputs)) if k not in known]
    return StepGraph(
        node.name,
        "stream",
        tuple(StepInput(value) for value in inputs),
        tuple(StepOutput(f"row{k}", value) for k, value in enumerate(results[op.states :])),
        tuple(nodes),
        tuple(constants),
        states,
    )


def _zeros(value: Value) -> Array:
    return Constant.of("", np.zeros(value.type.shape, value.type.dtype.numpy)).data


def run_scan(
    kernel: ScanKernel,
    inputs: Sequence[Array | None],
    step: Callable[[dict[str, Array], dict[str, Array]], tuple[dict[str, Array], dict[str, Array]]],
) -> list[Array]:
    """What a ScanKernel gives, in NumPy.

    Args:
        kernel: with its body.
        inputs: of the call.
        step: one step of the body: from inputs and states by name to outputs and states.
    """
    signature = kernel.body.signature
    present = [x for x in inputs if x is not None]
    states = {
        spec.name: x for spec, x in zip(signature.states, present[: kernel.states], strict=True)
    }
    rest = present[kernel.states : -1]
    rows: list[dict[str, Array]] = []
    for frame in range(kernel.length):
        given = {
            spec.name: x[frame] if position < kernel.sequences else x
            for position, (spec, x) in enumerate(zip(signature.inputs, rest, strict=True))
        }
        outputs, states = step(given, states)
        rows.append(outputs)
    finals = [states[spec.name] for spec in signature.states]
    return [*finals, *(np.stack([r[s.name] for r in rows]) for s in signature.outputs)]
