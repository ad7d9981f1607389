"""Loops that are an LSTM, a GRU or an RNN written out become that operator."""

from __future__ import annotations

from edgelstm_compiler.ir.recognition import find_cell
from edgelstm_compiler.onnx_import.rolling import Rolled
from edgelstm_compiler.onnx_import.source import Known, OnnxNode, Operand


def recognize(node: OnnxNode, rolled: Rolled) -> tuple[list[Operand], list[Operand]] | None:
    """Carried values and rows of a loop by a recurrent operator, or None where it is none.

    Args:
        node: the loop; receives the operator.
        rolled: its Scan.
    """
    data = node.builder.constant_arrays()
    found = find_cell(rolled.node, data)
    if found is None:
        return None
    weights = (
        Known(f"{node.name}.{name}", data)
        for name, data in (("W", found.w), ("R", found.r), ("B", found.b))
    )
    initial = [
        node.reshape(
            Known(value.name, data[value]) if value in data else value, (1, *value.type.shape)
        )
        for value in found.states
    ]
    outputs = node.emit_all(found.op, found.x, *weights, None, *initial)
    shown = dict(zip(("Y", "Y_h", "Y_c"), outputs, strict=False))
    steps, _, batch, hidden = node.extents(shown["Y"])
    finals = [
        node.reshape(shown[name], value.type.shape)
        for name, value in zip(found.finals, rolled.finals, strict=True)
    ]
    return finals, [node.reshape(shown["Y"], (steps, batch, hidden)) for _ in rolled.rows]
