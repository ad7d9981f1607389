"""What each scheme admits, as data: scheme x operator, and what an operator's attributes refuse."""

from __future__ import annotations

from edgelstm.numerics.cells import Range
from edgelstm_compiler.ir.activations import Fn
from edgelstm_compiler.ir.cells import CELLS
from edgelstm_compiler.ir.ops import Dense, Recurrent
from edgelstm_compiler.ir.types import Node, Op
from edgelstm_compiler.quant.scheme import Scheme
from edgelstm_compiler.quant.tables import why_no_signed_table, why_no_unit_table

OK = ""

_ALL: dict[type[Op], str] = {**dict.fromkeys(CELLS, OK), Dense: OK}

SUPPORT: dict[Scheme, dict[type[Op], str]] = {
    Scheme.FP16: _ALL,
    Scheme.W8: _ALL,
    Scheme.W4: _ALL,
    Scheme.INT8: _ALL,
    Scheme.INT8_FULL: {**{cell: cell.why_no_integers or OK for cell in CELLS}, Dense: OK},
}
"""For each scheme the layers it quantizes: "" or why not. Other operators stay in float32; in
int8-full data movement and Softmax behind an integer layer are integers too."""

ATTRIBUTES: dict[Scheme, dict[str, str]] = {
    Scheme.INT8_FULL: {
        "direction, sequence_lens, initial states": OK,
        "peepholes": OK,
        "input_forget": OK,
        "clip": OK,
        "linear_before_reset 0 and 1": OK,
        "gates: sigmoid, hard_sigmoid": OK,
        "candidate, output: tanh, sigmoid, hard_sigmoid, scaled_tanh with |alpha| <= 1": OK,
        "relu, affine, leaky_relu, thresholded_relu, elu, softplus in a cell": (
            "no bounds, integer gates have"
        ),
        "softsign in a cell": "does not settle within the fixed-point range",
        "Dense with none, relu, sigmoid, tanh, hard_sigmoid": OK,
        "more than 516 inputs": OK,  # with 8 bits: sums of 16 would not fit into 32
        "cell states beyond 682": "more than 16 bits; use int8 for this layer",
    },
}
"""What the integer scheme says of attributes; the other schemes admit all that fp32 does."""


def refusal(node: Node, scheme: Scheme) -> str | None:
    """Why the layer cannot have the scheme; None if it can."""
    if scheme is Scheme.FP32:
        return None
    if not is_layer(node):
        return "it has no weights to quantize"
    if scheme is not Scheme.INT8_FULL:
        return None
    return _check_cell(node.op) if isinstance(node.op, Recurrent) else _check_dense(node)


def is_layer(node: Node) -> bool:
    """Whether some scheme quantizes the node's operator."""
    return isinstance(node.op, (Recurrent, Dense))


def _check_cell(op: Recurrent) -> str | None:
    if op.why_no_integers:
        return op.why_no_integers
    ranges = op.cell().function_ranges * op.direction.count
    for values, activation in zip(ranges, op.activations, strict=True):
        is_unit = values is Range.UNIT
        why = why_no_unit_table(activation) if is_unit else why_no_signed_table(activation)
        if why is not None:
            return why
    return None


def _check_dense(node: Node) -> str | None:
    op = node.op
    assert isinstance(op, Dense)
    if op.activation is None or op.activation.fn is Fn.RELU:
        return None
    if why_no_unit_table(op.activation) is None:
        return None
    return why_no_signed_table(op.activation)
