"""Operators that reduce, rank or accumulate the elements along some axes: loops over rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

from tvm import tirx

from edgelstm_compiler.ir.ops import ArgReduce, CumSum, Reduce, Reduction, TopKIndices
from edgelstm_compiler.ir.types import TensorType
from edgelstm_targets.tvm_cpu import tensorir as tir
from edgelstm_targets.tvm_cpu.tensorir import NAMES, Buffer, Expr, Function, Parameter


def reduce_function(name: str, op: Reduce, kind: TensorType) -> Function:
    """The elements along some axes become one each."""
    dtype = NAMES[kind.dtype]
    kept = [axis for axis in range(kind.rank) if axis not in op.axes]

    def merged(total: Expr, x: Expr) -> Expr:
        match op.reduction:
            case Reduction.SUM:
                return total + x
            case Reduction.PROD:
                return total * x
            case Reduction.MAX:
                found = tirx.max(x, total)
            case Reduction.MIN:
                found = tirx.min(x, total)
        # NaN wins: max and min give the second operand where one is NaN.
        return tirx.Select(x != x, x, found) if kind.dtype.is_float else found

    def body(x: Buffer, y: Buffer) -> None:
        total = tir.local(1, dtype)
        with _nest(kind.shape, kept) as (start, row):
            if op.reduction in (Reduction.SUM, Reduction.PROD):
                neutral = 0 if op.reduction is Reduction.SUM else 1
                tir.store(total, 0, tirx.const(neutral, dtype))
            else:
                tir.store(total, 0, x[start])
            with _nest(kind.shape, op.axes) as (offset, _):
                tir.store(total, 0, merged(total[0], x[start + offset]))
            tir.store(y, row, total[0])

    return tir.define(name, [Parameter("x", dtype), Parameter("y", dtype)], body)


def arg_reduce_function(name: str, op: ArgReduce, kind: TensorType) -> Function:
    """The index of the largest or smallest element along an axis."""
    dtype = NAMES[kind.dtype]

    def is_better(x: Expr, best: Expr) -> Expr:
        if op.is_max:
            return x >= best if op.takes_last else x > best
        return x <= best if op.takes_last else x < best

    def body(x: Buffer, y: Buffer) -> None:
        best, index = tir.local(1, dtype), tir.local(1, "int64")
        with _rows(kind.shape, op.axis) as (row, at):
            tir.store(best, 0, x[at(tir.integer(0))])
            tir.store(index, 0, tirx.const(0, "int64"))
            with tir.loop(kind.shape[op.axis]) as i:
                value = tir.name(x[at(i)])
                with tir.when(is_better(value, best[0])):
                    tir.store(best, 0, value)
                    tir.store(index, 0, tirx.Cast("int64", i))
            tir.store(y, row(1, tir.integer(0)), index[0])

    return tir.define(name, [Parameter("x", dtype), Parameter("y", "int64")], body)


def top_k_function(name: str, op: TopKIndices, kind: TensorType) -> Function:
    """Indices of the k best elements: each is the best of those behind the one before it."""
    dtype = NAMES[kind.dtype]

    def is_better(a: Expr, b: Expr) -> Expr:
        return a > b if op.is_largest else a < b

    def body(x: Buffer, y: Buffer) -> None:
        best, last = tir.local(1, dtype), tir.local(1, dtype)
        index, last_index = tir.local(1, "int32"), tir.local(1, "int32")
        with _rows(kind.shape, op.axis) as (row, at), tir.loop(op.k) as rank:
            tir.store(index, 0, tir.integer(-1))
            with tir.loop(kind.shape[op.axis]) as i:
                value = tir.name(x[at(i)])
                is_behind = tirx.any(
                    rank == 0,
                    is_better(last[0], value),
                    tirx.all(tirx.Not(is_better(value, last[0])), i > last_index[0]),
                )
                is_first = index[0] < 0
                with tir.when(tirx.all(is_behind, tirx.any(is_first, is_better(value, best[0])))):
                    tir.store(best, 0, value)
                    tir.store(index, 0, i)
            tir.store(last, 0, best[0])
            tir.store(last_index, 0, index[0])
            tir.store(y, row(op.k, rank), tirx.Cast("int64", index[0]))

    return tir.define(name, [Parameter("x", dtype), Parameter("y", "int64")], body)


def cum_sum_function(name: str, op: CumSum, kind: TensorType) -> Function:
    """Running sums along an axis."""
    dtype = NAMES[kind.dtype]
    extent = kind.shape[op.axis]

    def body(x: Buffer, y: Buffer) -> None:
        total = tir.local(1, dtype)
        with _rows(kind.shape, op.axis) as (_, at):
            tir.store(total, 0, tirx.const(0, dtype))
            with tir.loop(extent) as i:
                position = tir.name(at(tir.integer(extent - 1) - i if op.is_reverse else i))
                value = tir.name(x[position])
                if op.is_exclusive:
                    tir.store(y, position, total[0])
                    tir.store(total, 0, total[0] + value)
                else:
                    tir.store(total, 0, total[0] + value)
                    tir.store(y, position, total[0])

    return tir.define(name, [Parameter("x", dtype), Parameter("y", dtype)], body)


@contextmanager
def _nest(shape: Sequence[int], axes: Sequence[int]) -> Iterator[tuple[Expr, Expr]]:
    """Loops over some axes of a row-major tensor: where the element stands, and their number."""
    offset, number = tir.integer(0), tir.integer(0)
    with ExitStack() as loops:
        for axis in sorted(axes):
            index = loops.enter_context(tir.loop(shape[axis]))
            offset = offset + index * math.prod(shape[axis + 1 :])
            number = number * shape[axis] + index
        yield tir.name(offset), tir.name(number)


@contextmanager
def _rows(
    shape: Sequence[int], axis: int
) -> Iterator[tuple[Callable[[int, Expr], Expr], Callable[[Expr], Expr]]]:
    """Loops over all other axes.

    Yields:
        row(extent, i): where element i stands in a tensor with that extent along the axis;
        at(i): where it stands in this one.
    """
    before, behind = math.prod(shape[:axis]), math.prod(shape[axis + 1 :])
    with tir.loop(before) as outer, tir.loop(behind) as inner:

        def row(extent: int, i: Expr) -> Expr:
            return (outer * extent + i) * behind + inner

        yield row, lambda i: row(shape[axis], i)
