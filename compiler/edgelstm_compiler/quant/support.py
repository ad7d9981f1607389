"""What each scheme admits, as data: scheme x operator, and what an operator's attributes refuse."""

from __future__ import annotations

from collections.abc import Callable

from edgelstm_compiler.ir.activations import Fn
from edgelstm_compiler.ir.ops import GRU, LSTM, RNN, Dense
from edgelstm_compiler.ir.types import Node, Op
from edgelstm_compiler.quant.scheme import Scheme
from edgelstm_compiler.quant.tables import why_no_signed_table, why_no_unit_table

OK = ""

RNN_INTEGER = "the integer RNN cell is not built yet; use int8 for this layer"

SUPPORT: dict[Scheme, dict[type[Op], str]] = {
    Scheme.FP16: {LSTM: OK, GRU: OK, RNN: OK, Dense: OK},
    Scheme.W8: {LSTM: OK, GRU: OK, RNN: OK, Dense: OK},
    Scheme.W4: {LSTM: OK, GRU: OK, RNN: OK, Dense: OK},
    Scheme.INT8: {LSTM: OK, GRU: OK, RNN: OK, Dense: OK},
    Scheme.INT8_FULL: {LSTM: OK, GRU: OK, RNN: RNN_INTEGER, Dense: OK},
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
    found = SUPPORT[scheme].get(type(node.op), "it has no weights to quantize")
    if found != OK:
        return found
    if scheme is not Scheme.INT8_FULL:
        return None
    return _INTEGER_CHECKS[type(node.op)](node)


def is_layer(node: Node) -> bool:
    """Whether some scheme quantizes the node's operator."""
    return type(node.op) in SUPPORT[Scheme.INT8]


def _check_cell(node: Node) -> str | None:
    op = node.op
    assert isinstance(op, (LSTM, GRU))
    for index, activation in enumerate(op.activations):
        is_gate = index % op.functions == 0
        why = why_no_unit_table(activation) if is_gate else why_no_signed_table(activation)
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


_INTEGER_CHECKS: dict[type[Op], Callable[[Node], str | None]] = {
    LSTM: _check_cell,
    GRU: _check_cell,
    Dense: _check_dense,
}
