"""The gates of a recurrent layer over a recording, as its float or quantized form computes them.

Operators show states and outputs only; here the layer runs once more, all chunks side by side, each
from the states that it started from, and hands out the inside of its cell.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from edgelstm.numerics.integers import FRACTIONS
from edgelstm.numerics.layer import Operands
from edgelstm_compiler.ir.ops import Int8Recurrent, IntegerRecurrent, Recurrent
from edgelstm_compiler.ir.trace import trace_layer
from edgelstm_compiler.ir.types import Array, Node, Value

SATURATED = 6.0
"""Pre-activations beyond this are at the flat end of sigmoid and tanh."""

_Q15 = 32768.0


@dataclass(frozen=True, slots=True)
class GateTrace:
    """Gates of all frames, directions and units, flat.

    Args:
        activations: by name of the gate (n, D*H).
        saturated: share of pre-activations beyond `SATURATED`.
    """

    activations: Mapping[str, Array]
    saturated: float


def is_cell(node: Node) -> bool:
    """Whether the node is a recurrent layer in any form."""
    return isinstance(node.op, (Recurrent, Int8Recurrent, IntegerRecurrent))


def cell_values(node: Node) -> list[str]:
    """The values that `trace_gates` wants to see in every frame, by name."""
    given = Operands.of(node.inputs)
    found: list[Value | None] = [given.x, given.lengths, *given.initial]
    return [value.name for value in (*found, *node.outputs) if value is not None]


def trace_gates(node: Node, rows: Mapping[str, Array], once: Mapping[str, Array]) -> GateTrace:
    """The gates of a layer.

    Args:
        node: the layer, in any form.
        rows: `cell_values` in every chunk (n, *shape).
        once: every value of one chunk, for weights and constants.

    Shapes:
        activations (n*T*B, D*H), chunks side by side as sequences of a batch.
    """
    op = node.op if isinstance(node.op, Recurrent) else node.op.cell  # type: ignore[attr-defined]
    given = Operands.of(node.inputs)
    chunks = len(rows[node.outputs[0].name])

    def side_by_side(value: Value | None, axis: int) -> Array | None:
        """The chunks of a value in its batch axis."""
        if value is None:
            return None
        data = rows[value.name] if value.name in rows else once[value.name][None]
        data = np.broadcast_to(data, (chunks, *value.type.shape))
        return np.concatenate(list(data), axis=axis)

    inputs = [None if value is None else once[value.name] for value in node.inputs]
    varying = {0: (given.x, 1), 4: (given.lengths, 0)}
    varying |= {5 + i: (value, 1) for i, value in enumerate(given.initial)}
    for index, (value, axis) in varying.items():
        if value is not None:
            inputs[index] = side_by_side(value, axis)
    gates = op.cell(peepholes=given.p is not None).traced_gates
    found = trace_layer(node.op, inputs, [n for gate in gates for n in (gate.total, gate.value)])
    is_integer = isinstance(node.op, IntegerRecurrent)
    activations: dict[str, Array] = {}
    saturated = []
    for gate in gates:
        total, value = (found[name].astype(np.float64) for name in (gate.total, gate.value))
        if is_integer:
            total, value = total / 2.0 ** FRACTIONS[gate.range], value / _Q15
        # (D, T, B, H): a row for each frame of each sequence
        activations[op.cell().gates[gate.gate]] = value.transpose(1, 2, 0, 3).reshape(
            -1, value.shape[0] * value.shape[3]
        )
        saturated.append(np.abs(total) > SATURATED)
    return GateTrace(activations, float(np.mean(saturated)))


def merge_traces(traces: Sequence[GateTrace]) -> GateTrace:
    """The traces of recordings, one after the other."""
    names = list(traces[0].activations)
    return GateTrace(
        {name: np.concatenate([trace.activations[name] for trace in traces]) for name in names},
        float(np.mean([trace.saturated for trace in traces])),
    )
