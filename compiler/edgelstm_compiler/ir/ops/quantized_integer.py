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

import numpy as np

from edgelstm.dtypes import DType
from edgelstm.numerics.cells import Cell
from edgelstm.numerics.integers import STATE_TYPES
from edgelstm.numerics.wide_cells import ranged, widened
from edgelstm_compiler.ir.ops.quantized import same_axes
from edgelstm_compiler.ir.ops.recurrent import INITIAL_H, SEQUENCE_LENS, P, R, Recurrent, W, X
from edgelstm_compiler.ir.types import Op, TensorType, Tie

BIAS = 3
X_MULTIPLIER, H_MULTIPLIER, TABLES = 8, 9, 10
"""Indices of the inputs that the float operator does not have, after its eight."""

INPUTS = 11
TABLE_ENTRIES = 513


@dataclass(frozen=True, slots=True)
class IntegerRecurrent(Op):
    """A recurrent layer; its nodes compute what `edgelstm.numerics.integers` does, bit for bit.

    The sum of accumulator a of a unit, in Q4.11 for gates in [0, 1], in Q3.12 for the candidate:

        sum = (rs(w x, x_shift) * x_multiplier[row] + rs(r h, h_shift) * h_multiplier[row]
               + bias[a]) >> sum_shift

    with int32 sums w x, r h of int8 weights with x (i8 or i16) and h (i8); bias holds the bias, the
    zero point of x and the rounding 2^(sum_shift-1). A gate is unit(T(b(sum))), a candidate
    T(b(sum)); b is sat16, or the clip to +-floor(clip * 2^fraction + 1/2), at most 32767.

    Args:
        cell: the float operator it stands for.
        x_shift, h_shift, sum_shift: see above.
        output_multiplier, output_shift: from h in 16 bits to int8: rs(h * multiplier, shift),
            within +-127.
        tables: for each activation of the cell the row of `tables` that it uses.
        cell_exponent: a state of free size has the scale 2^(cell_exponent - 15).
        peephole_shift: sums with peepholes are sum + rs(p * c, peephole_shift).
        is_wide: the first state and Y are int16 in Q0.15; only the product with R reads it as int8.
        h_exponent: a first state of int16 has the scale 2^(h_exponent - 15), and so has Y if
            is_wide: above 0 where the state begins beyond [-1, 1].

    Shapes:
        inputs: X (T, B, I) i8 or i16, W (D, G*H, I) i8, R (D, G*H, H) i8, bias (D, A*H) i32 with A
        sums per unit, sequence_lens (B,) i32 or None, for each state an initial one (D, B, H) or
        None, P (D, rows*H) i16 or None, x_multiplier (D, G*H) i16, h_multiplier (D, G*H) i16,
        tables (n, 513) i16.
        outputs: Y (T, D, B, H) i8 (wide: i16), and for each state (D, B, H).
    """

    cell: Recurrent
    x_shift: int
    h_shift: int
    sum_shift: int
    output_multiplier: int
    output_shift: int
    tables: tuple[int, ...]
    cell_exponent: int = 0
    peephole_shift: int = 0
    is_wide: bool = False
    h_exponent: int = 0

    def integer_cell(self, *, peepholes: bool = False) -> Cell:
        """The cell as integers carry its states."""
        cell = self.cell.cell(peepholes=peepholes)
        cell = widened(cell) if self.is_wide else cell
        return ranged(cell) if self.h_exponent else cell

    @property
    def shown(self) -> DType:
        """Element type of Y."""
        return DType.I16 if self.is_wide else DType.I8

    @property
    def label(self) -> str:
        """With the name of the cell."""
        return f"Integer{self.cell.kind}"

    @property
    def state_types(self) -> tuple[DType, ...]:
        """Element types of the states."""
        states = self.integer_cell().states
        return tuple(DType.from_numpy(np.dtype(STATE_TYPES[state.form])) for state in states)

    @property
    def accumulators(self) -> int:
        """A: sums per unit."""
        return len(self.cell.cell().sums)

    def infer(self, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        """Y and the final states; checks every operand's type and shape."""
        if len(inputs) != INPUTS:
            raise ValueError(f"{len(inputs)} inputs, expected {INPUTS}")
        if self.cell.why_no_integers:
            raise ValueError(self.cell.why_no_integers)
        x, w, r = inputs[X], inputs[W], inputs[R]
        if x is None or x.dtype not in (DType.I8, DType.I16) or w is None or r is None:
            raise ValueError(f"X is {x}, W {w}, R {r}")
        if w.dtype is not DType.I8 or r.dtype is not DType.I8:
            raise ValueError(f"W is {w}, R {r}, expected i8")
        as_float: list[TensorType | None] = [
            None if operand is None else TensorType(DType.F32, operand.shape)
            for operand in inputs[:X_MULTIPLIER]
        ]
        as_float[BIAS], as_float[SEQUENCE_LENS] = None, inputs[SEQUENCE_LENS]
        y, *states = self.cell.infer(as_float)
        types = {INITIAL_H + i: dtype for i, dtype in enumerate(self.state_types)}
        for position, dtype in {**types, P: DType.I16}.items():
            found = inputs[position]
            if found is not None and found.dtype is not dtype:
                raise ValueError(f"input {position} is {found}, expected {dtype.value}")
        count, hidden = self.cell.direction.count, self.cell.hidden
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
            TensorType(self.shown, y.shape),
            *(
                TensorType(dtype, state.shape)
                for dtype, state in zip(self.state_types, states, strict=True)
            ),
        )

    def ties(
        self, inputs: Sequence[TensorType | None], outputs: Sequence[TensorType]
    ) -> tuple[Tie, ...]:
        """Those of the float operator."""
        return self.cell.ties(inputs, outputs)


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
