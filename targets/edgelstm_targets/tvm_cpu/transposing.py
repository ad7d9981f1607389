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


def exchange_function(name: str, exchange: Exchange, dtype: DType) -> Function:
    """The squares, then what is left at the ends of rows and columns, one by one."""
    rows, columns = exchange.rows, exchange.columns
    whole_rows, whole_columns = rows // _SIDE * _SIDE, columns // _SIDE * _SIDE

    def body(x: Buffer, y: Buffer) -> None:
        def copy(start: Expr, row: Expr, column: Expr) -> None:
            tir.store(y, start + column * rows + row, x[start + row * columns + column])

        with tir.loop(exchange.outer) as outer:
            start = tir.name(outer * (rows * columns))
            with tir.loop(columns // _SIDE) as across, tir.loop(rows // _SIDE) as down:
                row, column = down * _SIDE, across * _SIDE
                first = tir.name(start + row * columns + column)
                target = tir.name(start + column * rows + row)
                lines = [
                    tir.name(tir.load_vector(x, first + k * columns, _SIDE)) for k in range(_SIDE)
                ]
                for k, line in enumerate(_turned(lines)):
                    tir.store_vector(y, target + k * rows, line, _SIDE)
            if whole_columns < columns:
                with tir.loop(columns - whole_columns) as column, tir.loop(rows) as row:
                    copy(start, row, column + whole_columns)
            if whole_rows < rows:
                with tir.loop(whole_columns) as column, tir.loop(rows - whole_rows) as row:
                    copy(start, row + whole_rows, column)

    return tir.define(name, [Parameter("x", NAMES[dtype]), Parameter("y", NAMES[dtype])], body)


def _turned(lines: Sequence[Expr]) -> list[Expr]:
    """Four vectors of four: the columns of what they are the rows of."""

    def mixed(a: Expr, b: Expr, order: Sequence[int]) -> Expr:
        return tir.name(tirx.Shuffle([a, b], [tir.integer(lane) for lane in order]))

    a, b, c, d = lines
    pairs = [(mixed(a, b, order), mixed(c, d, order)) for order in ((0, 4, 1, 5), (2, 6, 3, 7))]
    return [mixed(*pair, order) for pair in pairs for order in ((0, 1, 4, 5), (2, 3, 6, 7))]
