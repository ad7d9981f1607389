"""Scheme int8-full: layers in integers only; what they compute, bit for bit.

Notation: rs(v, n) = (v + 2^(n-1)) >> n (n = 0: v), sat16 and sat8 saturate, all on int32, nothing
overflows (the quantizer proves it for the worst input). T(x) is a table of 513 int16 over all
int16 x, linear in between:
i = (x >> 7) + 256, r = x & 127, T(x) = T[i] + (((T[i+1] - T[i]) r + 64) >> 7).
unit(t) = (t + 32769) >> 1 turns t = 2y - 1 in Q0.15 into y in Q0.15, 0 to 32768.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgelstm.dtypes import DType
from edgelstm_compiler.ir.ops.quantized import same_axes
from edgelstm_compiler.ir.ops.recurrent import GRU, LSTM, R, Recurrent, W, X
from edgelstm_compiler.ir.types import Op, TensorType, Tie

BIAS = 3
X_MULTIPLIER, H_MULTIPLIER, TABLES = 8, 9, 10
"""Places of the inputs that the float operator does not have, after its eight."""

INPUTS = 11
TABLE_ENTRIES = 513


class IntegerRecurrent(Op):
    """What the integer cells have in common.

    The sum of accumulator a of a unit, in Q4.11 for gates in [0, 1], in Q3.12 for the candidate:

        sum = (rs(w x, x_shift) * x_multiplier[row] + rs(r h, h_shift) * h_multiplier[row]
               + bias[a]) >> sum_shift

    with int32 sums w x, r h of int8 weights with x (i8 or i16) and h (i8); bias holds the bias, the
    zero point of x and the rounding 2^(sum_shift-1). A gate is unit(T(b(sum))), a candidate
    T(b(sum)); b is sat16, or the clip to +-floor(clip * 2^fraction + 1/2), at most 32767.

    Fields of every subclass:
        cell: the float operator it stands for.
        x_shift, h_shift, sum_shift: see above.
        output_multiplier, output_shift: from h in Q0.15 to int8: sat8(rs(h * multiplier, shift)).
        tables: for each activation of the cell the row of `tables` that it uses.

    Shapes:
        inputs: X (T, B, I) i8 or i16, W (D, G*H, I) i8, R (D, G*H, H) i8, bias (D, A*H) i32,
        sequence_lens (B,) i32 or None, initial_h (D, B, H) or None, initial_c (D, B, H) or None,
        P (D, 3*H) i16 or None, x_multiplier (D, G*H) i16, h_multiplier (D, G*H) i16,
        tables (n, 513) i16.
        outputs: Y (T, D, B, H) i8, Y_h (D, B, H), and for LSTM Y_c (D, B, H).
    """

    __slots__ = ()

    @property
    def float_cell(self) -> Recurrent:
        """The float operator it stands for."""
        cell: Recurrent = self.cell  # type: ignore[attr-defined]
        return cell

    @property
    def state_types(self) -> tuple[DType, ...]:
        """Element types of the states."""
        raise NotImplementedError

    @property
    def accumulators(self) -> int:
        """A: sums per unit."""
        raise NotImplementedError

    def infer(self, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        """Y, Y_h (and Y_c); checks every operand's type and shape."""
        if len(inputs) != INPUTS:
            raise ValueError(f"{len(inputs)} inputs, expected {INPUTS}")
        x, w, r = inputs[X], inputs[W], inputs[R]
        if x is None or x.dtype not in (DType.I8, DType.I16) or w is None or r is None:
            raise ValueError(f"X is {x}, W {w}, R {r}")
        if w.dtype is not DType.I8 or r.dtype is not DType.I8:
            raise ValueError(f"W is {w}, R {r}, expected i8")
        as_float: list[TensorType | None] = [
            None if operand is None else TensorType(DType.F32, operand.shape)
            for operand in inputs[:X_MULTIPLIER]
        ]
        as_float[BIAS], as_float[BIAS + 1] = None, inputs[BIAS + 1]
        y, *states = self.float_cell.infer(as_float)
        types = dict(zip((5, 6), self.state_types, strict=False))
        for place, dtype in {**types, 7: DType.I16}.items():
            found = inputs[place]
            if found is not None and found.dtype is not dtype:
                raise ValueError(f"input {place} is {found}, expected {dtype.value}")
        count, hidden = self.float_cell.direction.count, self.float_cell.hidden
        rows = TensorType(DType.I16, w.shape[:2])
        bias = TensorType(DType.I32, (count, self.accumulators * hidden))
        tables = inputs[TABLES]
        if (inputs[X_MULTIPLIER], inputs[H_MULTIPLIER], inputs[BIAS]) != (rows, rows, bias):
            raise ValueError(
                f"multipliers {inputs[X_MULTIPLIER]}, {inputs[H_MULTIPLIER]}, bias {inputs[BIAS]}, "
                f"expected {rows}, {rows}, {bias}"
            )
        if tables is None or tables != TensorType(DType.I16, (tables.shape[0], TABLE_ENTRIES)):
            raise ValueError(f"tables {tables}, expected i16[n,{TABLE_ENTRIES}]")
        return (
            TensorType(DType.I8, y.shape),
            *(
                TensorType(dtype, state.shape)
                for dtype, state in zip(self.state_types, states, strict=True)
            ),
        )

    def ties(
        self, inputs: Sequence[TensorType | None], outputs: Sequence[TensorType]
    ) -> tuple[Tie, ...]:
        """Those of the float operator."""
        return self.float_cell.ties(inputs, outputs)


@dataclass(frozen=True, slots=True)
class IntegerLSTM(IntegerRecurrent):
    """LSTM with h in int8 and c in int16 with the scale 2^(cell_exponent - 15).

    With peepholes the sum of i, o, f is sum + rs(p * c, peephole_shift), o with the new c.
    f = 32768 - i with input_forget. Then

        c' = clamp(rs(f * c + rs(i * g, cell_exponent), 15), -32767, 32767)
        h' = narrow(rs(o * T_h(u), 15)),  u = sat16(c' << (cell_exponent - 3)),
             or rs(c', 3 - cell_exponent) where that is negative.
    """

    cell: LSTM
    x_shift: int
    h_shift: int
    sum_shift: int
    output_multiplier: int
    output_shift: int
    tables: tuple[int, ...]
    cell_exponent: int
    peephole_shift: int

    @property
    def state_types(self) -> tuple[DType, ...]:
        """H in int8, c in int16."""
        return (DType.I8, DType.I16)

    @property
    def accumulators(self) -> int:
        """i, o, f, candidate."""
        return 4


@dataclass(frozen=True, slots=True)
class IntegerGRU(IntegerRecurrent):
    """GRU with h in int16 (Q0.15), which products and Y see as narrow(h) in int8.

    linear_before_reset, accumulators z, r, n, m (n: only x, m: only h):
        n = T_g(b((n_sum) + rs(r * sat16(m_sum), 15))) with the sums shifted by sum_shift each.
    Else, accumulators z, r, n: the product of n is with narrow(rs(r * h, 15)).
    h' = sat16(rs((32768 - z) * n + z * h, 15)).
    """

    cell: GRU
    x_shift: int
    h_shift: int
    sum_shift: int
    output_multiplier: int
    output_shift: int
    tables: tuple[int, ...]

    @property
    def state_types(self) -> tuple[DType, ...]:
        """H in int16."""
        return (DType.I16,)

    @property
    def accumulators(self) -> int:
        """z, r, candidate, and its recurrent part where that stands apart."""
        return 4 if self.cell.linear_before_reset else 3


@dataclass(frozen=True, slots=True)
class IntegerDense(Op):
    """clamp((rs(w x, x_shift) * multiplier[n] + bias[n]) >> sum_shift, low, high).

    With a table that value, saturated to int16, goes through it (and `unit` where is_unit) before
    it is clamped. ReLU is a clamp: `low` is the zero point of the output.

    Shapes:
        x (..., K) i8 or i16, w (N, K) i8, bias (N,) i32, multiplier (N,) i16, table (513,) i16 or
        None -> (..., N) of `dtype`.
    """

    dtype: DType
    x_shift: int
    sum_shift: int
    low: int
    high: int
    is_unit: bool = False

    def infer(self, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        """The input's shape with N in place of K."""
        x, w, bias, multiplier, table = inputs
        if x is None or x.dtype not in (DType.I8, DType.I16) or x.rank < 1:
            raise ValueError(f"IntegerDense of {x}")
        if w is None or w.rank != 2 or w.dtype is not DType.I8 or w.shape[1] != x.shape[-1]:
            raise ValueError(f"IntegerDense of {x} with weights {w}")
        units = w.shape[:1]
        if (bias, multiplier) != (TensorType(DType.I32, units), TensorType(DType.I16, units)):
            raise ValueError(f"IntegerDense bias {bias}, multiplier {multiplier}")
        if table not in (None, TensorType(DType.I16, (TABLE_ENTRIES,))):
            raise ValueError(f"IntegerDense table {table}")
        if self.dtype not in (DType.I8, DType.I16):
            raise ValueError(f"IntegerDense to {self.dtype.value}")
        return (TensorType(self.dtype, (*x.shape[:-1], *units)),)

    def ties(
        self, inputs: Sequence[TensorType | None], outputs: Sequence[TensorType]
    ) -> tuple[Tie, ...]:
        """All axes but the last."""
        del inputs
        return tuple(Tie(0, axis, 0, axis) for axis in range(outputs[0].rank - 1))


@dataclass(frozen=True, slots=True)
class IntegerSoftmax(Op):
    """Probabilities in Q0.15 of int16 logits, at most 32767.

    e = unit(T(max(rs((x - max x) * multiplier, shift), -32768))), s = sum of e,
    p = min((e * 2^15 + (s >> 1)) / s, 32767); the division rounds down.

    Shapes:
        x (...) i16, table (513,) i16 -> (...) i16.
    """

    axis: int
    multiplier: int
    shift: int

    def infer(self, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        """The input's type."""
        x, table = inputs
        if x is None or x.dtype is not DType.I16 or not 0 <= self.axis < x.rank:
            raise ValueError(f"IntegerSoftmax along axis {self.axis} of {x}")
        if table != TensorType(DType.I16, (TABLE_ENTRIES,)):
            raise ValueError(f"IntegerSoftmax table {table}")
        return (x,)

    def ties(
        self, inputs: Sequence[TensorType | None], outputs: Sequence[TensorType]
    ) -> tuple[Tie, ...]:
        """Every axis but its own."""
        del inputs
        return tuple(tie for tie in same_axes(outputs[0]) if tie.output_axis != self.axis)
