"""Operators that read or replace elements at computed indices.

Negative indices count from the end. Those out of range are read from, or written to, the nearest
place: memory is safe whatever they are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import ExitStack

from tvm import tirx

from edgelstm_compiler.ir.ops import GatherElements, GatherND, Merge, ScatterElements, ScatterND
from edgelstm_compiler.ir.types import TensorType
from edgelstm_targets.tvm_cpu import tensorir as tir
from edgelstm_targets.tvm_cpu.expressions import Element
from edgelstm_targets.tvm_cpu.tensorir import NAMES, Buffer, Expr, Function, Parameter


def gather_elements(op: GatherElements, inputs: Sequence[TensorType]) -> Element:
    """One element for each index, from the same row of the data."""
    kind, index_type = inputs

    def element(tensors: Sequence[Expr], indices: Sequence[Expr]) -> Expr:
        at = list(indices)
        index = tensors[1][tuple(indices)]
        at[op.axis] = _counted(index, kind.shape[op.axis], NAMES[index_type.dtype])
        return tensors[0][tuple(at)]

    return element


def gather_nd(op: GatherND, inputs: Sequence[TensorType]) -> Element:
    """Slices of the data at index vectors."""
    kind, vectors = inputs
    depth = vectors.shape[-1]

    def element(tensors: Sequence[Expr], indices: Sequence[Expr]) -> Expr:
        own, behind = indices[: vectors.rank - 1], indices[vectors.rank - 1 :]
        at = [
            _counted(
                tensors[1][(*own, tir.integer(k))],
                kind.shape[op.batch_axes + k],
                NAMES[vectors.dtype],
            )
            for k in range(depth)
        ]
        rest = behind[: kind.rank - op.batch_axes - depth]
        return tensors[0][(*own[: op.batch_axes], *at, *rest)]

    return element


def scatter_elements_function(
    name: str, op: ScatterElements, inputs: Sequence[TensorType]
) -> Function:
    """The data, then one update after another."""
    kind, index_type, _ = inputs

    def body(x: Buffer, indices: Buffer, updates: Buffer, y: Buffer) -> None:
        _copy(x, y, kind.size)
        with ExitStack() as loops:
            own = [loops.enter_context(tir.loop(extent)) for extent in index_type.shape]
            number = tir.name(_offset(own, index_type.shape))
            index = _counted(indices[number], kind.shape[op.axis], NAMES[index_type.dtype])
            at = tir.name(_offset([*own[: op.axis], index, *own[op.axis + 1 :]], kind.shape))
            tir.store(y, at, _merged(op.merge, y[at], updates[number]))

    return tir.define(name, _parameters(inputs), body)


def scatter_nd_function(name: str, op: ScatterND, inputs: Sequence[TensorType]) -> Function:
    """The data, then one slice after another."""
    kind, vectors, _ = inputs
    depth = vectors.shape[-1]
    count = math.prod(vectors.shape[:-1])
    run = math.prod(kind.shape[depth:])

    def body(x: Buffer, indices: Buffer, updates: Buffer, y: Buffer) -> None:
        _copy(x, y, kind.size)
        with tir.loop(count) as row:
            at = [
                _counted(indices[row * depth + k], kind.shape[k], NAMES[vectors.dtype])
                for k in range(depth)
            ]
            start = tir.name(_offset(at, kind.shape[:depth]) * run)
            with tir.loop(run) as i:
                old = y[start + i]
                tir.store(y, start + i, _merged(op.merge, old, updates[row * run + i]))

    return tir.define(name, _parameters(inputs), body)


def _parameters(inputs: Sequence[TensorType]) -> list[Parameter]:
    names = ("x", "indices", "updates")
    given = [Parameter(n, NAMES[kind.dtype]) for n, kind in zip(names, inputs, strict=True)]
    return [*given, Parameter("y", NAMES[inputs[0].dtype])]


def _copy(x: Buffer, y: Buffer, size: int) -> None:
    with tir.loop(size) as i:
        tir.store(y, i, x[i])


def _offset(indices: Sequence[Expr], shape: Sequence[int]) -> Expr:
    offset = tir.integer(0)
    for index, extent in zip(indices, shape, strict=True):
        offset = offset * extent + index
    return offset


def _counted(index: Expr, extent: int, dtype: str) -> Expr:
    """An index from the front, within the extent, as int32."""
    zero, count = tirx.const(0, dtype), tirx.const(extent, dtype)
    index = tirx.Select(index < zero, index + count, index)
    index = tirx.max(zero, tirx.min(index, count - tirx.const(1, dtype)))
    return tirx.Cast("int32", index)


def _merged(merge: Merge, old: Expr, new: Expr) -> Expr:
    match merge:
        case Merge.REPLACE:
            return new
        case Merge.ADD:
            return old + new
        case Merge.MUL:
            return old * new
        case Merge.MIN:
            return tirx.min(old, new)
        case Merge.MAX:
            return tirx.max(old, new)
