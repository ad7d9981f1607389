"""The gates of a recurrent layer over a recording, as its float or quantized form computes them.

Operators show states and outputs only; here their sums are computed once more, in real numbers, of
the very integers that the operator multiplies.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from edgelstm.engines.numpy_ops.activations import activate
from edgelstm.engines.numpy_ops.quantized_conversion import quantized
from edgelstm.engines.numpy_ops.quantized_recurrence import SIGNED_FRACTION, UNIT_FRACTION
from edgelstm_compiler.ir.activations import Activation
from edgelstm_compiler.ir.fields import op_fields
from edgelstm_compiler.ir.ops import GRU, LSTM, Int8Recurrent, IntegerRecurrent, Recurrent, Unary
from edgelstm_compiler.ir.ops.quantized_int8 import R_SCALE, W_SCALE, X_INVERSE
from edgelstm_compiler.ir.ops.quantized_integer import H_MULTIPLIER, X_MULTIPLIER, IntegerLSTM
from edgelstm_compiler.ir.ops.recurrent import INITIAL_C, INITIAL_H, SEQUENCE_LENS, B, P, R, W, X
from edgelstm_compiler.ir.types import Array, Node

GATES = {
    "LSTM": ("input gate", "output gate", "forget gate", "candidate"),
    "GRU": ("update gate", "reset gate", "candidate"),
    "RNN": ("candidate",),
}
"""Names of the gates in ONNX order."""

SATURATED = 6.0
"""Pre-activations beyond this are at the flat end of sigmoid and tanh."""


@dataclass(frozen=True, slots=True)
class GateTrace:
    """Gates of all frames, directions and units, flat.

    Args:
        activations: by name of the gate (n, D*H).
        saturated: share of pre-activations beyond `SATURATED`.
    """

    activations: Mapping[str, Array]
    saturated: float


@dataclass(frozen=True, slots=True)
class _Cell:
    """One direction in real numbers; x and h may be integers that w and r are scaled for."""

    op: Recurrent
    w: Array
    r: Array
    w_bias: Array
    r_bias: Array
    p: Array | None
    x: Array
    h: Array
    c_before: Array | None
    c_after: Array | None
    functions: tuple[Activation, ...]


def is_cell(node: Node) -> bool:
    """Whether the node is a recurrent layer in any form."""
    return isinstance(node.op, (Recurrent, Int8Recurrent, IntegerRecurrent))


def cell_values(node: Node) -> list[str]:
    """The values that `trace_gates` wants to see in every frame, by name."""
    places = (X, INITIAL_H, INITIAL_C)
    padded = (*node.inputs, *([None] * 11))
    found = [value for place in places if (value := padded[place]) is not None]
    return [value.name for value in (*found, *node.outputs)]


def trace_gates(
    node: Node, rows: Mapping[str, Array], once: Mapping[str, Array]
) -> GateTrace | None:
    """The gates of a layer.

    Args:
        node: the layer, in any form.
        rows: `cell_values` in every chunk (n, *shape).
        once: every value of one chunk, for weights and constants.

    Returns:
        None where they cannot be told: sequence_lens, or peepholes inside of a longer chunk.
    """
    op = node.op if isinstance(node.op, Recurrent) else node.op.float_cell  # type: ignore[attr-defined]
    padded = (*node.inputs, *([None] * 11))
    steps = node.outputs[0].type.shape[0]
    if padded[SEQUENCE_LENS] is not None or (steps > 1 and padded[P] is not None):
        return None
    parts: dict[str, list[Array]] = {name: [] for name in GATES[op.kind]}
    sums: list[Array] = []
    for d in range(op.direction.count):
        before, after = _gates(_cell(node, op, d, rows, once))
        sums += before
        for name, gate in zip(parts, after, strict=True):
            parts[name].append(gate.reshape(len(gate), -1))
    flat = np.concatenate([x.ravel() for x in sums])
    return GateTrace(
        {name: np.concatenate(found, axis=-1) for name, found in parts.items()},
        float(np.mean(np.abs(flat) > SATURATED)),
    )


def merge_traces(traces: Sequence[GateTrace]) -> GateTrace:
    """The traces of recordings, one after the other."""
    names = list(traces[0].activations)
    return GateTrace(
        {name: np.concatenate([trace.activations[name] for trace in traces]) for name in names},
        float(np.mean([trace.saturated for trace in traces])),
    )


def _gates(cell: _Cell) -> tuple[list[Array], list[Array]]:
    """Pre-activations and activations of each gate, (N, B, H)."""
    op = cell.op
    bound = np.inf if op.clip is None else op.clip

    def act(index: int, sums: Array) -> Array:
        fields = op_fields(Unary(cell.functions[index]))["activation"]
        return np.asarray(activate(fields, np.clip(sums, -bound, bound)))

    def split(sums: Array) -> list[Array]:
        return [sums[..., g * op.hidden : (g + 1) * op.hidden] for g in range(op.gates)]

    xs = split(cell.x @ cell.w.T + cell.w_bias)
    if not (isinstance(op, GRU) and not op.linear_before_reset):
        hs = split(cell.h @ cell.r.T + cell.r_bias)
    match op:
        case LSTM():
            i, o, f, g = (x + h for x, h in zip(xs, hs, strict=True))
            if cell.p is not None and cell.c_before is not None and cell.c_after is not None:
                p_i, p_o, p_f = np.split(cell.p, 3)
                i, f = i + p_i * cell.c_before, f + p_f * cell.c_before
                o = o + p_o * cell.c_after
            gate_i = act(0, i)
            gate_f = 1 - gate_i if op.input_forget else act(0, f)
            return [i, o, f, g], [gate_i, act(0, o), gate_f, act(1, g)]
        case GRU():
            return _gru_gates(cell, xs, act)
        case _:
            total = xs[0] + hs[0]
            return [total], [act(0, total)]


def _gru_gates(cell: _Cell, xs: list[Array], act: object) -> tuple[list[Array], list[Array]]:
    assert callable(act)
    op = cell.op
    assert isinstance(op, GRU)
    hidden = op.hidden
    rows = [slice(g * hidden, (g + 1) * hidden) for g in range(3)]
    z = xs[0] + cell.h @ cell.r[rows[0]].T + cell.r_bias[rows[0]]
    r = xs[1] + cell.h @ cell.r[rows[1]].T + cell.r_bias[rows[1]]
    gate_z, gate_r = act(0, z), act(0, r)
    if op.linear_before_reset:
        n = xs[2] + gate_r * (cell.h @ cell.r[rows[2]].T + cell.r_bias[rows[2]])
    else:
        n = xs[2] + (gate_r * cell.h) @ cell.r[rows[2]].T + cell.r_bias[rows[2]]
    return [z, r, n], [gate_z, gate_r, act(1, n)]


def _cell(
    node: Node, op: Recurrent, d: int, rows: Mapping[str, Array], once: Mapping[str, Array]
) -> _Cell:
    padded = (*node.inputs, *([None] * 11))

    def constant(place: int) -> Array | None:
        value = padded[place]
        return None if value is None else once[value.name][d].astype(np.float64)

    def state(place: int) -> Array | None:
        """(n, B, H) before each chunk."""
        value = padded[place]
        if value is None:
            return None
        data = rows[value.name] if value.name in rows else once[value.name][None]
        return data[:, d]

    x_value, w, r = padded[X], constant(W), constant(R)
    assert x_value is not None
    assert w is not None
    assert r is not None
    x = rows[x_value.name] if x_value.name in rows else once[x_value.name][None]
    x = x.reshape(-1, *x.shape[2:])
    y = rows[node.outputs[0].name].reshape(-1, *node.outputs[0].type.shape[1:])[:, d]
    h = _previous(y, state(INITIAL_H), backward=d == 1 or op.direction.value == "reverse", op=node)
    functions = op.activations[d * op.functions : (d + 1) * op.functions]
    c_after = rows[node.outputs[2].name][:, d] if isinstance(op, LSTM) else None
    c_before = state(INITIAL_C) if isinstance(op, LSTM) else None
    if c_before is None and c_after is not None:
        c_before = np.zeros_like(c_after)
    bias, size = constant(B), op.gates * op.hidden
    w_bias, r_bias = np.zeros(size), np.zeros(size)
    p = constant(P)
    if isinstance(node.op, IntegerRecurrent):
        kx, kh, kb = _integer_factors(node.op, constant(X_MULTIPLIER), constant(H_MULTIPLIER))
        w, r = w * kx[:, None], r * kh[:, None]
        assert bias is not None
        w_bias = bias[:size] * kb
        if bias.size > size:
            r_bias[-op.hidden :] = bias[size:] * kb[-op.hidden :]
        if p is not None and isinstance(node.op, IntegerLSTM):
            p = p * 2.0 ** -(node.op.peephole_shift + UNIT_FRACTION)
    else:
        if bias is not None:
            w_bias, r_bias = bias[:size], bias[size:]
        if isinstance(node.op, Int8Recurrent):
            w_scale, r_scale = constant(W_SCALE), constant(R_SCALE)
            inverse = padded[X_INVERSE]
            assert w_scale is not None
            assert r_scale is not None
            assert inverse is not None
            w, r = w * w_scale[:, None], r * r_scale[:, None]
            x, h = _quantized_operands(node.op, x, h, once[inverse.name])
    x, h = x.astype(np.float64), h.astype(np.float64)
    return _Cell(op, w, r, w_bias, r_bias, p, x, h, c_before, c_after, functions)


def _previous(y: Array, initial: Array | None, *, backward: bool, op: Node) -> Array:
    """The h (N, B, H) that each frame starts from, in what R multiplies."""
    if backward:
        return _previous(y[::-1], initial, backward=False, op=op)[::-1]
    start = np.zeros_like(y[:1])
    if initial is not None:
        start = initial[:1]
        if start.dtype == np.int16:  # a GRU's h in Q0.15, seen as int8
            start = np.rint(start / 32768.0 * 127).astype(y.dtype)
    return np.concatenate([start.astype(y.dtype), y[:-1]])


def _quantized_operands(
    op: Int8Recurrent, x: Array, h: Array, inverse: Array
) -> tuple[Array, Array]:
    x_dtype, zero_point = op.x_dtype, op.x_zero_point  # type: ignore[attr-defined]
    h_inverse = np.float32(op.h_inverse)  # type: ignore[attr-defined]
    return (
        quantized(x, inverse, zero_point, x_dtype.numpy),
        quantized(h, np.asarray([h_inverse], np.float32), 0, np.dtype(np.int8)),
    )


def _integer_factors(
    op: IntegerRecurrent, x_multiplier: Array | None, h_multiplier: Array | None
) -> tuple[Array, Array, Array]:
    """What one step of the products of x and h, and of the bias, is worth, by row (G*H,)."""
    assert x_multiplier is not None
    assert h_multiplier is not None
    cell = op.float_cell
    fractions = [UNIT_FRACTION] * (cell.gates - 1) + [SIGNED_FRACTION]
    sum_shift, x_shift, h_shift = op.sum_shift, op.x_shift, op.h_shift  # type: ignore[attr-defined]
    unit = np.repeat(2.0 ** -(sum_shift + np.array(fractions, np.float64)), cell.hidden)
    return (
        unit * x_multiplier * 2.0**-x_shift,
        unit * h_multiplier * 2.0**-h_shift,
        unit,
    )
