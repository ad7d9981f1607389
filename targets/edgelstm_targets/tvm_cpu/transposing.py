"""Two axes exchanged: squares of four by four elements, turned in registers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tvm import tirx

from edgelstm.dtypes import DType
from edgelstm_compiler.ir.types import TensorType
from edgelstm_targets.processors.isa import InstructionSet
from edgelstm_targets.tvm_cpu import tensorir as tir
from edgelstm_targets.tvm_cpu.copying import bounded, fitting_lanes
from edgelstm_targets.tvm_cpu.tensorir import NAMES, Buffer, Expr, Function, Parameter

_SIDE = 4
_FOUR_BYTES = (DType.F32, DType.I32)


@dataclass(frozen=True, slots=True)
class Exchange:
    """(outer, rows, columns) -> (outer, columns, rows)."""

    outer: int
    rows: int
    columns: int


def exchange_of(kind: TensorType, perm: Sequence[int], isa: InstructionSet) -> Exchange | None:
    """What a transposition comes to, where it is turned in squares; None where it is not."""
    if isa.lanes < _SIDE or kind.dtype not in _FOUR_BYTES:
        return None
    moved = [axis for axis in perm if kind.shape[axis] > 1]
    kept = 0
    while kept < len(moved) and moved[kept] == sorted(moved)[kept]:
        kept += 1
    behind = moved[kept:]
    cut = next((k for k in range(1, len(behind)) if behind[k] < behind[k - 1]), 0)
    if not cut or behind[cut:] + behind[:cut] != sorted(behind):
        return None
    columns, rows = (
        math.prod(kind.shape[a] for a in part) for part in (behind[:cut], behind[cut:])
    )
    outer = math.prod(kind.shape[axis] for axis in moved[:kept])
    return Exchange(outer, rows, columns) if min(rows, columns) >= _SIDE else None


def exchange_function(name: str, exchange: Exchange, dtype: DType, isa: InstructionSet) -> Function:
    """Squares side by side fill a vector; the last ones lie over those before them."""
    rows, columns = exchange.rows, exchange.columns
    squares = fitting_lanes(rows, isa.lanes) // _SIDE
    high = squares * _SIDE

    def body(x: Buffer, y: Buffer) -> None:
        with (
            tir.repeat(exchange.outer) as outer,
            tir.repeat(-(-columns // _SIDE)) as across,
            tir.repeat(-(-rows // high)) as down,
        ):
            start = tir.name(outer * (rows * columns))
            row, column = bounded(down, high, rows), bounded(across, _SIDE, columns)
            row, column = tir.name(row), tir.name(column)
            first = tir.name(start + row * columns + column)
            target = tir.name(start + column * rows + row)
            lines = []
            for k in range(_SIDE):
                parts = [
                    tir.name(tir.load_vector(x, first + (n * _SIDE + k) * columns, _SIDE))
                    for n in range(squares)
                ]
                lines.append(tir.name(tir.join(parts, _SIDE)) if squares > 1 else parts[0])
            for k, line in enumerate(_turned(lines, squares)):
                tir.store_vector(y, target + k * rows, line, high)

    return tir.define(name, [Parameter("x", NAMES[dtype]), Parameter("y", NAMES[dtype])], body)


def _turned(lines: Sequence[Expr], squares: int) -> list[Expr]:
    """The columns of squares that four vectors are the rows of, one square behind the other."""
    lanes = squares * _SIDE

    def mixed(a: Expr, b: Expr, order: Sequence[int]) -> Expr:
        # Of every square two lanes of a, two of b, which stand behind all of a.
        places = [
            tir.integer(lane % _SIDE + (lane // _SIDE) * lanes + n * _SIDE)
            for n in range(squares)
            for lane in order
        ]
        return tir.name(tirx.Shuffle([a, b], places))

    a, b, c, d = lines
    pairs = [(mixed(a, b, order), mixed(c, d, order)) for order in ((0, 4, 1, 5), (2, 6, 3, 7))]
    return [mixed(*pair, order) for pair in pairs for order in ((0, 1, 4, 5), (2, 3, 6, 7))]
